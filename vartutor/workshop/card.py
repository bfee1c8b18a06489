"""What must be said beside published weights: a model card, from the record that the weights come with."""

import json

from vartutor.workshop.sets import SETS

# What models of this kind cannot do, whatever their numbers.
LIMITS = {
    "tokenizer": "It stores photographs with a loss: fine texture, small text and faces come back changed.",
    "transformer": "It draws what is likely, not what was there. Its photos prove nothing: do not identify people, "
    "read number plates or documents, or judge medical or forensic pictures by them.",
    "cnn": "It is sure of what it can know and smooth elsewhere; damage that it was not trained on stays.",
    "fidelity": "It brings back what the degraded photo shows, its noise and blocks included.",
    "refiner": "It draws detail that no token and no pixel of the degraded photo vouches for.",
}


def write_card(file: str, entry: dict) -> str:
    """The card as Markdown, with the front matter that model hubs read.

    Args:
        file: name of the weights, such as ``tokenizer_hit.safetensors``.
        entry: of the manifest.
    """
    kind = file.split("_")[0]
    kept = ("sha256", "licence", "command", "commit", "seed", "steps", "seconds")
    rows = {key: entry[key] for key in kept if key in entry}
    over = {key: f"over {key} {entry[key]}" for key in ("tokenizer", "transformer") if isinstance(entry.get(key), str)}
    parts = [
        f"---\nlicense: {entry['licence'].lower()}\nlibrary_name: vartutor\npipeline_tag: image-to-image\n---",
        f"# {file.removesuffix('.safetensors')}",
        f"{entry['what'].capitalize()}. {'; '.join(over.values())}".strip(),
        "## Record",
        "\n".join(["| | |", "|---|---|", *(f"| {key} | `{value}` |" for key, value in rows.items())]),
        "## Data",
        _data(entry.get("run", {})),
        "## Metrics",
        "```json\n" + json.dumps(entry["metrics"], indent=2) + "\n```",
        "On the course's shipped photos, in dB where the name says psnr; other photos give other numbers.",
        "## Limits",
        LIMITS[kind],
        _seen(entry.get("run", {})),
        "## Settings",
        "```json\n" + json.dumps(entry.get("config"), indent=2) + "\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _data(run: dict) -> str:
    rows = [
        f"- {SETS[name].what}; {SETS[name].licence}; {SETS[name].home}" if name in SETS else f"- {name}"
        for name in run.get("data", ())
        if name != "photos"
    ]
    if not rows:
        return "The course's shipped training photos, CC0 or public domain."
    return "\n".join([*rows, "", "The terms of the photos may bind what the weights are used for: read them."])


def _seen(run: dict) -> str:
    if not run:
        return ""
    return (
        f"Trained on crops of {run['image_size']} pixels, {run['batch']} per step; degraded, where it is, with "
        f"`{run['degradation']}`. Damage of other kinds was never seen."
    )

"""Put the photographs and checkpoints into a wheel; an editable install reads them from the clone."""

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class AssetsHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict) -> None:
        if version == "standard":
            build_data["force_include"].update(
                {f"assets/{name}": f"vartutor/assets/{name}" for name in ("photos", "checkpoints")}
            )

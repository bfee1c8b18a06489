"""Photo sets that super-resolution models are trained on: where they are, and under which terms.

This course ships none of them. A checksum is given only where a public source states one; else the first
download's is kept beside it, and later ones must agree.
"""

from dataclasses import dataclass

from vartutor.errors import pick


@dataclass(frozen=True)
class RemoteFile:
    """An archive to download; size in bytes and sha256 where somebody vouches for them."""

    url: str
    size: int | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        """File name."""
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True)
class PhotoSet:
    """A set; without ``files``, and not listed, it cannot be fetched by a program, and ``how`` says what to do."""

    name: str
    photos: int
    what: str
    licence: str  # empty of photos of one's own
    home: str
    files: tuple[RemoteFile, ...] = ()
    how: str = ""
    within: str = ""  # part of the paths of the photos inside the archives
    first: int | None = None  # photos to take, in the order of their names
    listed: bool = False  # photo by photo in a list in `assets`, see `commons`


ETHZ = "https://data.vision.ee.ethz.ch/cvl/DIV2K/"

SETS = {
    photos.name: photos
    for photos in (
        PhotoSet("own", 0, "photos of your own, from --from PATH", "", "", how="they are yours"),
        PhotoSet(
            "commons",
            443,
            "photographs of all kinds, short side 512 px, beside the course's own",
            "each CC0, public domain or CC BY; assets/photos_commons.csv names licence and author",
            "assets/photos_commons.csv",
            listed=True,
        ),
        PhotoSet(
            "div2k",
            800,
            "DIV2K, training half: varied photos of 2K (Agustsson and Timofte, 2017)",
            "academic research only; the photos belong to their owners",
            ETHZ,
            # Size and checksum: tensorflow/datasets, url_checksums/div2k.txt.
            (
                RemoteFile(
                    ETHZ + "DIV2K_train_HR.zip",
                    3530603713,
                    "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
                ),
            ),
        ),
        PhotoSet(
            "div2k-val",
            100,
            "DIV2K, validation half: for benchmarks, never for training",
            "academic research only; the photos belong to their owners",
            ETHZ,
            (
                RemoteFile(
                    ETHZ + "DIV2K_valid_HR.zip",
                    448993893,
                    "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
                ),
            ),
        ),
        PhotoSet(
            "flickr2k",
            2650,
            "Flickr2K: photos of 2K from Flickr (Lim et al., 2017)",
            "none stated; photos of many owners from Flickr, used in research only",
            "https://github.com/sanghyun-son/EDSR-PyTorch",
            (RemoteFile("https://cv.snu.ac.kr/research/EDSR/Flickr2K.tar"),),
            within="_HR/",
        ),
        PhotoSet(
            "ost",
            10324,
            "OST: outdoor scenes of seven kinds (Wang et al., 2018)",
            "none stated; used in research only",
            "https://github.com/xinntao/SFTGAN",
            (RemoteFile("https://openmmlab.oss-cn-hangzhou.aliyuncs.com/datasets/OST_dataset.zip"),),
        ),
        PhotoSet(
            "div8k",
            1500,
            "DIV8K: photos of up to 8K (Gu et al., 2019)",
            "academic research only",
            "https://data.vision.ee.ethz.ch/cvl/DIV8K/",
            how="register at the NTIRE challenge on extreme super-resolution, which hands it out",
        ),
        PhotoSet(
            "ffhq",
            70000,
            "FFHQ: aligned faces of 1024 px (Karras et al., 2019); the paper takes the first 10,000",
            "CC BY-NC-SA 4.0, each photo CC BY, CC BY-NC or public domain; not for face recognition",
            "https://github.com/NVlabs/ffhq-dataset",
            how="run its download_ffhq.py --images",
            first=10000,
        ),
        PhotoSet(
            "lsdir",
            84991,
            "LSDIR: varied photos (Li et al., 2023)",
            "none stated for the photos; handed out for research",
            "https://github.com/ofsoundof/LSDIR",
            how="ask for it with the form on its page, and log in where it is stored",
        ),
    )
}


def get_set(name: str) -> PhotoSet:
    """A set by its name; ``UserError`` if there is none."""
    return pick(name, SETS, "photo set")

"""Data sets that come with a dependency: made once into the cache, from what the installed packages carry."""

import importlib.metadata
import importlib.util
import pydoc_data.topics
import string
from pathlib import Path
from typing import Any

import numpy as np

from pieria.data import cache
from pieria.data.storage import write_json
from pieria.errors import DataError


def made(name: str, needs: str) -> Path:
    """The folder of an embedded set, made by the function ``name`` of this file if it is not there yet.

    Raises `DataError` if the package that carries the data is not installed.
    """
    # one folder for each version of the package, since another version may carry other data
    version = "".join(str(part) for part in _version(needs))
    target = cache.folder("sets", "embedded", f"{name}-{version}")

    def make(folder: Path) -> None:
        folder.mkdir()
        MAKERS[name](folder)

    return cache.made_once(target, make)


def _version(needs: str) -> str:
    if needs == "python":
        import platform

        return platform.python_version()
    try:
        return importlib.metadata.version(needs)
    except importlib.metadata.PackageNotFoundError:
        raise DataError(
            f"this data set comes with {needs}, which is not installed",
            "the extra 'data'",
            "Install it with: pip install 'pieria[data]'",
        ) from None


def _pictures(folder: Path, images: np.ndarray, **more: Any) -> None:
    np.savez_compressed(folder / "images.npz", images=images, **more)


def digits(folder: Path) -> None:
    """1,797 handwritten digits, 8 × 8, seventeen grey levels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    _pictures(folder, data.images.astype(np.uint8), labels=data.target, class_names=np.array(list("0123456789")), levels=17)


def _table(folder: Path, bunch: Any, target: str, words: bool) -> None:
    frame = bunch.frame.rename(columns={"target": target})
    if words:
        frame[target] = [str(bunch.target_names[code]) for code in frame[target]]
    frame.to_csv(folder / "table.csv", index=False)


def breast_cancer(folder: Path) -> None:
    """569 tumours, thirty measurements each, malignant or benign."""
    from sklearn.datasets import load_breast_cancer

    _table(folder, load_breast_cancer(as_frame=True), "diagnosis", words=True)


def wine(folder: Path) -> None:
    """178 Italian wines, thirteen measurements each, from three growers."""
    from sklearn.datasets import load_wine

    _table(folder, load_wine(as_frame=True), "cultivar", words=True)


def diabetes(folder: Path) -> None:
    """442 patients, ten measurements each, and how far the disease went in a year; in the original units."""
    from sklearn.datasets import load_diabetes

    _table(folder, load_diabetes(as_frame=True, scaled=False), "progression", words=False)


def python_manual(folder: Path) -> None:
    """The topics of Python's reference manual that ``help()`` shows, one after the other."""
    topics = pydoc_data.topics.topics
    text = "\n".join(topics[name].rstrip() + "\n" for name in sorted(topics))
    (folder / "manual.txt").write_text(text, encoding="utf-8")


FACES = {  # file of a font that matplotlib ships: how a person would name it
    "DejaVuSans": "plain sans serif",
    "DejaVuSans-Bold": "bold sans serif",
    "DejaVuSans-Oblique": "slanted sans serif",
    "DejaVuSans-BoldOblique": "bold slanted sans serif",
    "DejaVuSansMono": "plain typewriter",
    "DejaVuSansMono-Bold": "bold typewriter",
    "DejaVuSansMono-Oblique": "slanted typewriter",
    "DejaVuSansMono-BoldOblique": "bold slanted typewriter",
    "DejaVuSerif": "plain serif",
    "DejaVuSerif-Bold": "bold serif",
    "DejaVuSerif-Italic": "italic serif",
    "DejaVuSerif-BoldItalic": "bold italic serif",
    "STIXGeneral": "plain roman",
    "STIXGeneralBol": "bold roman",
    "STIXGeneralItalic": "italic roman",
    "STIXGeneralBolIta": "bold italic roman",
    "cmr10": "light roman",
    "cmss10": "light sans serif",
    "cmtt10": "light typewriter",
}


def glyphs(folder: Path) -> None:
    """Letters and digits, 32 × 32, drawn in each of `FACES`, with captions ("a bold serif capital A")."""
    from PIL import Image, ImageDraw, ImageFont

    # found by hand: importing matplotlib itself would take a second
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    home = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    symbols = string.ascii_uppercase + string.ascii_lowercase + string.digits
    kinds = ["capital"] * 26 + ["small"] * 26 + ["digit"] * 10
    images, labels, captions, faces = [], [], [], []
    for file, words in FACES.items():
        font = ImageFont.truetype(home / f"{file}.ttf", 24)
        for code, (symbol, kind) in enumerate(zip(symbols, kinds, strict=True)):
            picture = Image.new("L", (32, 32), 0)
            # anchored in the middle of the line, so that heights stay comparable and descenders fit
            ImageDraw.Draw(picture).text((16, 23), symbol, fill=255, font=font, anchor="ms")
            images.append(np.asarray(picture))
            labels.append(code)
            captions.append(f"{'an' if words[0] in 'aeiou' else 'a'} {words} {kind} {symbol}")
            faces.append(words)
    _pictures(
        folder,
        np.stack(images),
        labels=np.array(labels),
        class_names=np.array(list(symbols)),
        face=np.array(faces),
    )
    write_json(folder / "captions.json", captions)


def textures(folder: Path) -> None:
    """Brick, grass and gravel, cut into 192 patches of 64 × 64."""
    from skimage import data

    names = ("brick", "grass", "gravel")
    cut = [np.asarray(getattr(data, name)()).reshape(8, 64, 8, 64).swapaxes(1, 2).reshape(64, 64, 64) for name in names]
    _pictures(folder, np.concatenate(cut), labels=np.repeat(np.arange(3), 64), class_names=np.array(names))


def _carbon_dioxide() -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # statsmodels still names a frequency the old way
        from statsmodels.datasets import co2

        return co2.load_pandas().data["co2"]


def co2_weekly(folder: Path) -> None:
    """2,284 weeks of CO2 at Mauna Loa, 1958 to 2001; 59 of them have no value."""
    _carbon_dioxide().rename_axis("week").rename("co2_ppm").to_csv(folder / "series.csv")


def co2_monthly(folder: Path) -> None:
    """The 521 month means of the same measurements, months without a value left out."""
    monthly = _carbon_dioxide().resample("ME").mean().dropna()
    monthly.index = monthly.index.strftime("%Y-%m")
    monthly.rename_axis("month").rename("co2_ppm").to_csv(folder / "series.csv")


MAKERS = {
    made.__name__: made
    for made in (
        digits,
        breast_cancer,
        wine,
        diabetes,
        python_manual,
        glyphs,
        textures,
        co2_weekly,
        co2_monthly,
    )
}

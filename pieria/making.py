"""What a run makes: samples, drawings with their odds, texts longer than the context; and writing them to files."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pieria.data.examples import UnpairedExamples
from pieria.errors import PieriaError, UsageError, unknown
from pieria.forms import Grid, Label, Tokens
from pieria.modalities.chat import Chat
from pieria.modalities.contract import Artifact
from pieria.modalities.image import Image
from pieria.modalities.pictures import is_picture
from pieria.models.contract import Displays, Model, device_of
from pieria.noise import ItemNoise
from pieria.settings import Settings
from pieria.texts import Texts

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from pieria.drawing import Drawing
    from pieria.modalities.opening import Dataset
    from pieria.shots import Pairs


class Makes(Texts):
    """The verbs of a run that draw, whatever it learned; those of texts alone are `Texts`."""

    if TYPE_CHECKING:

        def dataset(self) -> "Dataset":
            """The data that it was fitted to."""
            ...

    def sample(
        self,
        n: int = 16,
        *,
        seed: int = 0,
        prompt: str | None = None,
        label: str | int | Sequence[str | int] | None = None,
        stop: str | Sequence[str] = (),
        regex: str | None = None,
        bias: Mapping[str, float] | None = None,
        beams: int | None = None,
        best_of: int = 1,
        style: str | None = None,
        shots: "Pairs | None" = None,
        out: str | Path | None = None,
        batch: int = 64,
        **options: Any,
    ) -> list[Artifact]:
        """Draw ``n`` artifacts; item i depends on ``(seed, i)`` alone, not on ``n`` or ``batch``.

        Args:
            n: how many.
            seed: the same seed gives the same artifacts.
            prompt: how each begins (texts); an empty one is none. Of one longer than the model can use, it reads the end. Of
                a model of pairs, what each answers to; of conversations, what the user says first.
            label: the class to draw, or one an item; of a conditional model without it, item i is of class i mod classes.
            stop: strings before which a text ends.
            regex: a regular expression that the new part of each text matches as a whole.
            bias: nats added to the log-odds of symbols, by what they look like: ``{" the": 2, "⏎": -5}``.
            beams: nothing is drawn; the ``n`` best texts that so many hypotheses find, scored with ``length_penalty`` 0.6.
            best_of: so many are drawn for each one that is given, the most probable by symbol.
            style: a named set of options, "faithful" (the model's own law) or "readable"; options of your own go first.
            shots: examples that stand before ``prompt``: pairs of a prompt and its completion, or a file of them
                (``.jsonl``, ``.csv``, ``.tsv``), written as `pieria.shots` says. What is given is then the completion of
                ``prompt`` alone, up to its end. As many stand there as fit into the context; `remarks` says how many.
            out: also write them, to a file or folder in the modality's own format.
            batch: how many are drawn together.
            options: of the family's drawing, such as ``temperature=0.8``.

        Raises `UsageError` for options that the family does not have, and for an expression that no text of its can match.
        """
        wished: dict[str, Any] = {
            "stop": stop,
            "regex": regex,
            "bias": bias,
            "beams": beams,
            "best_of": best_of,
            "style": style,
            "shots": shots,
        }
        found = self.draw(n, seed=seed, prompt=prompt, label=label, batch=batch, scored=False, **wished, **options)
        artifacts = [drawing.artifact for drawing in found]
        if out is not None:
            self.write(artifacts, Path(out), seed=seed)
        return artifacts

    def draw(
        self,
        n: int = 16,
        *,
        seed: int = 0,
        prompt: str | None = None,
        label: str | int | Sequence[str | int] | None = None,
        stop: str | Sequence[str] = (),
        regex: str | None = None,
        bias: Mapping[str, float] | None = None,
        beams: int | None = None,
        best_of: int = 1,
        style: str | None = None,
        shots: "Pairs | None" = None,
        batch: int = 64,
        scored: bool = True,
        **options: Any,
    ) -> list["Drawing"]:
        """What `sample` draws, each with its symbols, the log-probability of each (if ``scored``), and whether it ended.

        The log-probabilities are those of the model itself, whatever options, grammar or bias the symbols were drawn with.
        """
        from pieria.drawing import Drawing, Wishes, Writer, styled

        if n < 1 or batch < 1:
            raise UsageError(f"{n} samples, {batch} together", "at least 1")
        options = styled(style, options, self.model.Sampling)
        chosen = self.model.Sampling.of(options)
        if shots is not None and not isinstance(self.modality, Chat):
            wished: dict[str, Any] = {"n": n, "seed": seed, "label": label, "stop": stop, "regex": regex, "bias": bias}
            wished |= {"beams": beams, "best_of": best_of, "batch": batch, "scored": scored}
            return self._behind(shots, prompt, self.draw, chosen, **options, **wished)
        condition = self._condition(n, label, prompt, seed)
        if isinstance(self.model.condition, Tokens):
            prompt = None
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        wishes = Wishes(prompt or "", stops, regex, dict(bias or {}), beams, best_of=best_of)
        replies = shots is not None or prompt is not None
        if isinstance(self.modality, Chat) and (replies or self.modality.settings.learn == "assistant"):
            if scored or wishes.steers():
                raise UsageError(
                    "a reply in a conversation was to be steered, searched or told symbol by symbol",
                    "--prompt and --stop alone",
                    "Leave the others out",
                )
            return [Drawing(talk) for talk in self._replies(prompt, n, seed, stops, options, shots)]
        writer = Writer(self.model, self.modality, chosen, wishes) if scored or wishes.any() else None
        noise = ItemNoise(seed, n)
        found: list[Drawing] = []
        with torch.inference_mode():
            if writer is not None and beams is not None:
                return writer.search(n, condition, scored=scored)
            for start in range(0, n, batch):
                part = noise.part(start, min(start + batch, n))
                given = None if condition is None else condition[start : start + len(part)]
                if writer is not None and wishes.any():
                    found += writer.draw(part, given, scored=scored)
                    continue
                x = self.model.sample(len(part), chosen, part, given)
                if writer is not None:
                    found += writer.told(x, given)
                else:
                    found += [Drawing(artifact) for artifact in self.modality.decode(x.cpu())]
        return found

    def compose(
        self, outline: Sequence[str], n: int = 1, *, seed: int = 0, style: str | None = None, **options: Any
    ) -> list[str]:
        """Write ``n`` texts longer than the context, section by section under the headings of ``outline``.

        Before each piece the model reads the end of what stands there, with the heading; runs that stand twice anywhere in
        the text cost more and more (``no_repeat``, 24 symbols if not given). ``length`` is of a section: so many new symbols
        at most, two windows if not given; it is cut back to the end of a sentence.

        Raises `UsageError` for an outline without headings, `DataError` for a character that the run does not know.
        """
        from pieria.drawing import composed, styled

        chosen = self.model.Sampling.of(styled(style, options, self.model.Sampling))
        condition = self._condition(n, None, None)
        with torch.inference_mode():
            return [
                composed(
                    self.model, self.modality, chosen, outline, seed, item, None if condition is None else condition[[item]]
                )
                for item in range(n)
            ]

    def inpaint(
        self,
        picture: "str | Path | Picture",
        *,
        mask: "str | Path | Picture | None" = None,
        box: Sequence[int] | None = None,
        n: int = 1,
        seed: int = 0,
        label: str | int | None = None,
        **options: Any,
    ) -> "list[Picture]":
        """Complete a picture: ``n`` copies, drawn anew where the mask is white (or in the box) to fit what is around.

        Args:
            picture: a PIL image or a file, of the size and kind that the run learned from.
            mask: a picture of that size: white where something is to be drawn, black where it stays as it is.
            box: instead of a mask ``(top, left, height, width)`` in pixels.
            n: how many.
            seed: the same seed gives the same completions.
            label: the class that they are thought to be of, for a conditional model; unset: drawn as often as in training.
            options: of the family's drawing, such as ``particles=64`` of a `pixelcnn`.

        Raises `UsageError` for a model that does not fill pictures and for both or neither of mask and box, `FormError` for
        a mask or a picture of another size.
        """
        from pieria.inpainting import inpainted

        if n < 1:
            raise UsageError(f"n = {n}", "at least 1")
        asked = self.model.Sampling.of(options)
        condition = None if label is None else self._condition(n, label, None)
        how: dict[str, Any] = {"mask": mask, "box": box, "n": n, "seed": seed, "condition": condition}
        return inpainted(self.model, self.modality, picture, asked, **how)

    def translate(
        self,
        what: "str | Path | Picture | Sequence[str | Path | Picture]",
        *,
        to: str = "b",
        resize: bool = False,
        out: str | Path | None = None,
        beams: int = 1,
        length_penalty: float = 0.6,
        seed: int = 0,
        batch: int | None = None,
        shots: "Pairs | None" = None,
        told: Callable[[str], None] | None = None,
        **options: Any,
    ) -> list[Artifact]:
        """What a model of pairs, or of two sets of pictures, makes of each: a translation.

        Args:
            what: of texts, strings (one string is one text). Of pictures, PIL images, or files, folders and zips of them.
            to: of pictures: "b", the kind that the run was fitted --to, or back to "a".
            resize: of pictures: bring each to the size that was learned from; else they stay as large as they are.
            out: of pictures: a folder for the translations, each under the name that its file has (or a number). They are
                written one by one, and what is returned are the paths.
            beams: of texts: with more than one, a beam search for the most probable text; it takes as many times as long.
            length_penalty: of a beam search; larger ones prefer longer texts.
            seed: the same seed gives the same translations. Of texts it matters where ``temperature`` is above 0.
            batch: how many are made together; unset, 64 texts, or 16 pictures of one size.
            shots: of texts: examples, pairs of a text and what it becomes (or a file of them), for a model that reads prompt
                and completion as one text, such as a ``gpt``: they stand before each text (see `pieria.shots`).
            told: hears, in sentences, how many of them stood there.
            options: of the family's drawing; without ``temperature`` the most probable symbol is taken at each step.

        Raises `UsageError` for a model that turns nothing into anything else, `FormError` for a text longer than it learned
        from or a picture of other channels, `DataError` for what is no picture.
        """
        if not isinstance(self.modality, Image):
            texts: Any = what
            how: dict[str, Any] = {"beams": beams, "length_penalty": length_penalty, "seed": seed, "batch": batch or 64}
            return list(self._translate_texts(texts, shots=shots, told=told, **how, **options))
        return list(self.translations(what, to=to, resize=resize, out=out, seed=seed, batch=batch or 16, **options))

    def translations(
        self,
        what: "str | Path | Picture | Iterable[str | Path | Picture]",
        *,
        to: str = "b",
        resize: bool = False,
        out: str | Path | None = None,
        seed: int = 0,
        batch: int = 16,
        **options: Any,
    ) -> "Iterator[Artifact]":
        """What `translate` gives of pictures, one by one as they are made: of any number, few are in memory at once.

        ``what`` may also be an iterator of PIL images.
        """
        from pieria import translating

        if batch < 1:
            raise UsageError(f"{batch} pictures together", "at least 1")
        asked = self.model.Sampling.of(options)
        single = isinstance(what, str | Path) or not isinstance(what, Iterable)
        given: Any = [what] if single else list(what) if isinstance(what, Sequence) else what
        paths = [item for item in given if isinstance(item, str | Path)] if isinstance(given, list) else []
        if paths and len(paths) < len(given):
            raise UsageError("pictures and paths at once", "one of them")
        found = translating.pictures_in(paths) if paths else []
        how: dict[str, Any] = {"to": to, "resize": resize, "seed": seed, "batch": batch}
        pictures = translating.opened(found) if paths else given
        made = translating.translated(self.model, self.modality, pictures, asked, **how)
        if out is None:
            return made
        folder = Path(out)
        if folder.is_file() or is_picture(folder.name):
            raise UsageError(f"{out} is a file", "a folder, in which each picture keeps its name", "Change --out")
        numbered = (folder / f"{place:06}.png" for place in count())
        places = translating.places_for(found, folder) if paths else numbered
        return translating.written(made, places, self._said(seed))

    def remarks(self, *, style: str | None = None, **asked: Any) -> list[str]:
        """What a person should know of what `draw` would make of these wishes and options, each a sentence.

        Says how the prompt is read. Raises what `draw` would raise for them, before anything is drawn.
        """
        from pieria.drawing import Wishes, Writer, styled

        named = {name: asked.pop(name) for name in list(asked) if name in Wishes.__dataclass_fields__}
        shots = asked.pop("shots", None)
        if isinstance(self.modality, Chat) and named.get("prompt"):
            return self._told_of_talk(named["prompt"], shots, styled(style, asked, self.model.Sampling))
        options = self.model.Sampling.of(styled(style, asked, self.model.Sampling))
        said = _told_of_grain(self.model, options)
        if isinstance(self.model.condition, Tokens) and isinstance(self.model.form, Grid):
            self._condition(1, None, named.pop("prompt", None))  # read as a caption, once, so that a strange word is refused
        if shots is not None:
            few = self._shots(shots, options)
            named["prompt"], said = few.ask(named.get("prompt") or "").text, [*said, *few.told()]
        wishes = Wishes(**{**named, "prompt": named.get("prompt") or "", "bias": named.get("bias") or {}})
        return [*said, *(Writer(self.model, self.modality, options, wishes).remarks() if wishes.any() else [])]

    def write(self, artifacts: Sequence[Artifact], out: str | Path, *, seed: int | None = None) -> list[Path]:
        """Write artifacts in the modality's own format; where it has a place for it, the file names this run."""
        return self.modality.write(artifacts, Path(out), self._said(seed))

    def _said(self, seed: int | None) -> dict[str, str]:
        """What a file says of where it comes from."""
        said = {"pieria": self.record["name"], "model": self.record["model"]["family"]}
        return said if seed is None else {**said, "seed": str(seed)}

    def _condition(
        self, n: int, label: str | int | Sequence[str | int] | None, prompt: str | None, seed: int = 0
    ) -> Tensor | None:
        form = self.model.condition
        if label is not None and not isinstance(form, Label):
            raise UsageError(f"label {label!r} for a model without classes", "no label", "Fit with --condition label")
        if form is None:
            return None
        if isinstance(form, Tokens):
            if prompt is None and isinstance(self.model.form, Grid):
                return None  # pictures as they are drawn when nothing is said of them
            if prompt is None:
                raise UsageError(
                    "no prompt was given",
                    "a text: this model writes what answers to it",
                    "Use --prompt TEXT, or 'pieria translate RUN FILE' for many",
                )
            return self._prompts([prompt]).expand(n, -1)
        if isinstance(form, Grid):
            return self._held_out_sources(n, seed)
        assert isinstance(form, Label)
        if label is None:
            return torch.arange(n, device=device_of(self.model)) % len(form.classes)
        names = [label] * n if isinstance(label, str | int) else list(label)
        if len(names) != n:
            raise UsageError(f"{len(names)} labels for {n} samples", "one label, or one a sample")
        return torch.tensor([_class(name, form) for name in names], device=device_of(self.model))

    def _held_out_sources(self, n: int, seed: int) -> Tensor:
        """Held-out pictures of A for the items of a sample to be made of: which one depends on the seed and the item."""
        try:
            dataset = self.dataset()
        except PieriaError as error:
            raise UsageError(
                f"a sample of {self.path}, which turns pictures into others, and those it learned from are not to be had "
                f"({error.got})",
                "pictures to translate",
                "Use 'pieria translate RUN FILE|FOLDER --out DIR'",
            ) from None
        held = dataset.examples("test" if "test" in dataset.parts else "train")
        sources = held.sources if isinstance(held, UnpairedExamples) else held
        places = ItemNoise(seed, n).integers("source", len(sources))
        batch = sources.batch(places)
        found = batch.x if isinstance(held, UnpairedExamples) else batch.condition
        assert found is not None
        return found.to(device_of(self.model))


def _class(name: str | int, form: Label) -> int:
    if str(name) in form.classes:  # before its number: where classes are called 1 to 5, 1 means the one of that name
        return form.classes.index(str(name))
    if isinstance(name, int) and 0 <= name < len(form.classes):
        return name
    raise unknown("class", str(name), form.classes)


def _told_of_grain(model: Model, options: Settings) -> list[str]:
    """What to say to someone who looks at items that are drawn otherwise than they would be shown."""
    shown = model.display(options).options if isinstance(model, Displays) else options
    chosen = shown.model_dump()
    changed = " ".join(f"--set {name}={chosen[name]}" for name, value in options if chosen[name] != value)
    return [f"drawn from the model's own law, with its grain; what previews show comes with {changed}"] if changed else []

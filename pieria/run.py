"""``pieria.fit`` and ``pieria.load``, and the `Run` that both return: a trained model with all that belongs to it.

A run is a directory (see `pieria.training.workspace`). Loading one executes nothing from it: weights are safetensors, the
rest is JSON; a family of one's own is imported from the file that its user named, never from the run.
"""

import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pieria import registry
from pieria.data.examples import without_condition
from pieria.data.storage import read_json, write_atomically, write_json
from pieria.errors import DataError, PieriaError, RunError, UsageError, unknown
from pieria.forms import Label, Tokens
from pieria.modalities.contract import Artifact, Collection, Modality
from pieria.models import weights
from pieria.models.contract import Model, Predicts
from pieria.noise import ItemNoise, seeded
from pieria.settings import Settings, assign
from pieria.training import workspace as directory
from pieria.training.loop import learn
from pieria.training.plan import Plan, seconds_of
from pieria.training.processes import Processes, choose_device
from pieria.training.progress import shown
from pieria.training.workspace import Workspace

if TYPE_CHECKING:
    from pieria.evaluation import Scorecard
    from pieria.modalities.opening import Dataset
    from pieria.scoring import ScoreCard

__all__ = ["Run", "fit", "load", "mix"]

PREVIEWED, PREVIEWED_LENGTH, PREVIEW_SEED = 16, 200, 0  # items (2 of a stream), symbols of a stream


def fit(
    data: str | Path | None = None,
    model: str | None = None,
    *,
    as_: str | None = None,
    column: str | None = None,
    form: str | None = None,
    preset: str | None = None,
    out: str | Path | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    time: float | str | None = None,
    condition: str | None = None,
    seed: int = 0,
    resume: str | Path | None = None,
    start_from: str | Path | None = None,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    licence: str | None = None,
    consent: str | None = None,
    dry_run: bool = False,
    quiet: bool = False,
) -> "Run | None":
    """Learn a model from data, and leave a run directory behind.

    Args:
        data: a name of the catalogue, or a file or folder.
        model: a family's name, or the path of a file that defines one.
        as_, column, form: how to read the data, where that is not clear: the modality, the column, "tokens" or "grid".
        preset: a named set of hyperparameters; every family has "tiny".
        out: the run directory; the next number in ``runs/`` if not given.
        steps, epochs, time: the budget, one of them; time in seconds or in words ("60s", "10m").
        condition: "label" learns to draw a class that is asked for.
        seed: what every random draw follows from.
        resume: go on with the run in this directory; nothing else but a larger ``steps`` is needed then.
        start_from: begin with the weights of this run, encoding the data as it did.
        device: "auto", "cpu", "cuda" or "mps".
        settings: hyperparameters of the family, of training and of the modality, in one dictionary.
        licence, consent: of data of one's own, as the card will state them.
        dry_run: check everything, say what would be done, write nothing, return None.
        quiet: show no progress.

    Returns the run; after Ctrl-C its ``record["state"]`` is "stopped", and it can be resumed.

    Raises `UsageError` for unknown names and settings out of bounds, `DataError` for data that cannot be used, `RunError`
    for a directory that cannot be written, `TrainingError` for a loss that is not finite.
    """
    asked = {
        "steps": steps,
        "epochs": epochs,
        "seconds": None if time is None else seconds_of(time),
        "device": device,
    }
    if resume is not None:
        return _resume(Path(resume), asked, quiet=quiet)
    if data is None or model is None:
        raise UsageError("fit needs data and a model", "fit(DATA, MODEL), or fit(resume=RUN)")
    family = registry.find(model)
    preset_values = _preset(family, model, preset)
    earlier = None if start_from is None else load(start_from)
    kind = type(earlier.modality) if earlier is not None else _modality_of(data, as_, column)
    owners: list[type[Settings]] = [family.Settings, Plan, kind.Settings]
    default = assign(family.training_defaults, owners)
    named = assign(preset_values, owners)
    own = assign(settings or {}, owners)
    plan = Plan.layered(default[1], named[1], {"seed": seed}, own[1], asked)
    dataset = _open(
        data,
        as_=as_,
        column=column,
        form=form or _form_for(family, kind, model),
        settings={**default[2], **named[2], **own[2]},
        modality=None if earlier is None else earlier.modality,
        licence=licence,
        consent=consent,
    )
    wanted = _wanted(condition, family, dataset)
    chosen = {**default[0], **named[0], **own[0]}
    if earlier is not None:
        if type(earlier.model) is not family:
            raise UsageError(
                f"{start_from} is a run of {earlier.record['model']['family']}", f"one of {model}", "Name its family"
            )
        chosen = {**earlier.model.settings.model_dump(), **chosen}
    with seeded(plan.seed, "initial weights"):
        net = family(family.Settings.of(chosen), dataset.form, wanted)
    record = {
        "command": _command(locals()),
        "seed": plan.seed,
        "created": directory.now(),
        "versions": _versions(),
        "device": str(choose_device(plan.device)),
        "threads": plan.threads or torch.get_num_threads(),
        "model": {**weights.describe(net), "preset": preset, "parameters": sum(p.numel() for p in net.parameters())},
        "plan": plan.model_dump(mode="json"),
        "data": _facts(data, as_, column, form, dataset),
        "start_from": None if start_from is None else str(Path(start_from).resolve()),
    }
    name = f"{Path(model).stem}-{Path(str(data)).stem}"
    if dry_run:
        _say_what(record, Path(out) if out is not None else directory.next_path(name))
        return None
    processes = Processes.join(plan.device)
    files = {"modality/modality.json": _modality_record(dataset.modality)}
    if processes.main:
        space = Workspace.create(None if out is None else Path(out), name, record, files)
        processes.agree(str(space.path))
    else:
        space = Workspace.open(Path(processes.agree(None)), writer=False)
    return _learn(net, dataset, plan, space, resume=False, quiet=quiet)


def mix(runs: Sequence[str | Path], *, out: str | Path | None = None, seed: int = 0, quiet: bool = False) -> "Run":
    """A weighted mixture of runs with exact likelihoods over one form; its weights are chosen on the validation part.

    Raises `UsageError` for runs of different data or encodings, or without an exact likelihood.
    """
    loaded = [load(path) for path in runs]
    if len(loaded) < 2:
        raise UsageError(f"a mixture of {len(loaded)} run(s)", "two or more", "Name several run directories")
    # the shortest window is one that every part can read
    first = min(loaded, key=lambda run: getattr(run.model.form, "length", 0))
    for run in loaded:
        if run.record["data"]["fingerprint"] != first.record["data"]["fingerprint"]:
            raise UsageError(f"{run.path} was fitted to other data than {first.path}", "runs of the same data")
    net = _mixed([str(run.path.resolve()) for run in loaded])
    dataset, plan = first.dataset(), Plan.of({"seed": seed})
    record = {
        "command": shlex.join(["pieria", "mix", *(str(run.path) for run in loaded)]),
        "seed": seed,
        "created": directory.now(),
        "versions": _versions(),
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "model": {**weights.describe(net), "preset": None, "parameters": sum(p.numel() for p in net.parameters())},
        "plan": plan.model_dump(mode="json"),
        "data": first.record["data"],
        "mixed": [str(run.path.resolve()) for run in loaded],
    }
    files = {"modality/modality.json": _modality_record(dataset.modality)}
    space = Workspace.create(None if out is None else Path(out), f"mix-{Path(dataset.name).stem}", record, files)
    return _learn(net, dataset, plan, space, resume=False, quiet=quiet)


def _mixed(paths: Sequence[str]) -> Model:
    net: Model = registry.find("mix").of([load(path).model for path in paths])  # type: ignore[attr-defined]
    return net


def _resume(path: Path, asked: Mapping[str, Any], *, quiet: bool) -> "Run":
    record = directory.read_record(path)
    more = {name: value for name, value in asked.items() if value is not None}
    plan = Plan.layered(record["plan"], more)
    if record["state"] == "done" and not set(more) - {"device"}:
        raise UsageError(f"{path} is done", "a run that was stopped", "Give a larger --steps to go on with it")
    modality = _read_modality(path)
    dataset = _reopened(record, modality)
    processes = Processes.join(plan.device)
    space = Workspace.open(path, writer=processes.main)
    with seeded(plan.seed, "initial weights"):
        net = _mixed(record["mixed"]) if "mixed" in record else weights.build(record["model"])
    space.note(plan=plan.model_dump(mode="json"))
    return _learn(net, dataset, plan, space, resume=True, quiet=quiet)


def _learn(net: Model, dataset: "Dataset", plan: Plan, space: Workspace, *, resume: bool, quiet: bool) -> "Run":
    with space, shown(quiet=quiet) as watch:
        space.note(state="running", error=None)
        if space.record.get("start_from") and space.newest_checkpoint() is None:
            weights.restore(net, load(space.record["start_from"]).model.state_dict())
        for sentence in (dataset.reason, *dataset.findings) if not resume else ():
            watch.say(sentence)
        train = dataset.examples("train", training=True)
        validation = dataset.examples("validation") if "validation" in dataset.parts else None
        if net.condition is None:
            train, validation = without_condition(train), None if validation is None else without_condition(validation)
        preview = _previewer(space, dataset.modality) if space.writes else None
        history = learn(net, train, validation, plan, workspace=space, resume=resume, watch=replace(watch, preview=preview))
        if space.writes:
            weights.save(net, space.path / "model.safetensors")
        state = "stopped" if history.ended == "stopped" else "done"
        space.note(state=state, finished=directory.now(), result=asdict(history), repeat=_repeat(plan, history.totals))
        if state == "stopped":
            watch.say(f"stopped after step {history.steps}; go on with: pieria fit --resume {space.path}")
    return Run(space.path, net.eval(), dataset.modality, space.record, dataset)


def load(path: str | Path, *, device: str | None = None) -> "Run":
    """The run in the directory at ``path``; nothing from it is executed.

    Raises `RunError` for a directory that is no run, that is damaged, of a newer format, or has no weights yet.
    """
    place = Path(path)
    record = directory.read_record(place)
    file = place / "model.safetensors"
    if not file.exists():
        writer = directory.holder(place)
        raise RunError(
            f"{place} has no weights: it is {'being fitted by ' + writer if writer else record['state']}",
            "a run that is done or was stopped by Ctrl-C",
            "Wait until it is done" if writer else f"Go on with 'pieria fit --resume {place}'",
        )
    net = weights.load(file, choose_device(device) if device is not None else "cpu")
    return Run(place, net, _read_modality(place), record)


@runtime_checkable
class Begins(Protocol):
    """A modality whose artifacts can be given a beginning."""

    def beginning(self, text: str) -> Tensor:
        """The symbols of the beginning, without an end, long ``[time]``."""


class Run:
    """A trained model with its modality and the record of how it came to be.

    Attributes:
        path: the run directory.
        model: the trained `Model`, in evaluation mode.
        modality: how artifacts become tensors and back.
        record: ``run.json``: state, command, seed, versions, data, every setting, cost.
    """

    def __init__(
        self, path: Path, model: Model, modality: Modality, record: dict[str, Any], dataset: "Dataset | None" = None
    ) -> None:
        self.path, self.model, self.modality, self.record = path, model, modality, record
        self._dataset = dataset

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.record['model']['family']}, {self.record['state']})"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((t.device for t in [*self.model.parameters(), *self.model.buffers()]), torch.device("cpu"))

    def dataset(self) -> "Dataset":
        """The data that it was fitted to, read again; `DataError` if they have changed since."""
        if self._dataset is None:
            self._dataset = _reopened(self.record, self.modality)
        return self._dataset

    def log(self) -> list[dict[str, Any]]:
        """The lines of its log."""
        return directory.read_log(self.path)

    def previews(self) -> list[Path]:
        """What it drew while it learned, always from the same noise, in order."""
        return sorted((self.path / "samples").glob("step-*"))

    # ---- drawing -----------------------------------------------------------------------------------------------------

    def sample(
        self,
        n: int = 16,
        *,
        seed: int = 0,
        prompt: str | None = None,
        label: str | int | Sequence[str | int] | None = None,
        stop: str | Sequence[str] = (),
        out: str | Path | None = None,
        batch: int = 64,
        **options: Any,
    ) -> list[Artifact]:
        """Draw ``n`` artifacts; item i depends on ``(seed, i)`` alone, not on ``n`` or ``batch``.

        Args:
            n: how many.
            seed: the same seed gives the same artifacts.
            prompt: how each begins (texts).
            label: the class to draw, or one an item; of a conditional model without it, item i is of class i mod classes.
            stop: strings before which a text ends.
            out: also write them, to a file or folder in the modality's own format.
            batch: how many are drawn together.
            options: of the family's drawing, such as ``temperature=0.8``.

        Raises `UsageError` for options that the family does not have.
        """
        if n < 1:
            raise UsageError(f"{n} samples", "at least 1")
        chosen = self.model.Sampling.of(options)
        condition = self._condition(n, label)
        stops = [stop] if isinstance(stop, str) else list(stop)
        noise = ItemNoise(seed, n)
        drawn: list[Artifact] = []
        with torch.inference_mode():
            for start in range(0, n, batch):
                part = noise.part(start, min(start + batch, n))
                given = None if condition is None else condition[start : start + len(part)]
                if prompt is None and not stops:
                    x = self.model.sample(len(part), chosen, part, given)
                    drawn += self.modality.decode(x.cpu())
                else:
                    drawn += self._continued(prompt or "", stops, chosen, part, given)
        if out is not None:
            self.write(drawn, Path(out), seed=seed)
        return drawn

    def write(self, artifacts: Sequence[Artifact], out: str | Path, *, seed: int | None = None) -> list[Path]:
        """Write artifacts in the modality's own format; where it has a place for it, the file names this run."""
        said = {"pieria": self.record["name"], "model": self.record["model"]["family"]}
        return self.modality.write(artifacts, Path(out), said if seed is None else {**said, "seed": str(seed)})

    def _continued(
        self, prompt: str, stops: Sequence[str], options: Any, noise: ItemNoise, condition: Tensor | None
    ) -> list[str]:
        from pieria.sampling.decoding import generate

        form = self.model.form
        if not isinstance(self.model, Predicts) or not isinstance(form, Tokens) or not isinstance(self.modality, Begins):
            raise UsageError(
                f"{self.record['model']['family']} of {self.modality.name} was given a prompt or a stop string",
                "a model of text that predicts the next symbol",
                "Leave them out",
            )
        lead = self.modality.beginning(prompt) if prompt else None

        def over(made: Tensor) -> Tensor:
            # a symbol is at least a byte, and a character at most four
            tail = made[:, -(4 * max(map(len, stops)) + 8) :].cpu()
            return torch.tensor([any(stop in text for stop in stops) for text in self.modality.decode(tail)])

        made = generate(
            self.model, len(noise), options, noise, prompt=lead, condition=condition, stop=over if stops else None
        ).cpu()
        whole = made if lead is None else torch.cat([lead.expand(len(noise), -1), made], dim=1)
        texts = [str(text) for text in self.modality.decode(whole)]
        for place, text in enumerate(texts):
            ends = [found for stop in stops if (found := text.find(stop, len(prompt))) >= 0]
            texts[place] = text[: min(ends)] if ends else text
        return texts

    def _condition(self, n: int, label: str | int | Sequence[str | int] | None) -> Tensor | None:
        form = self.model.condition
        if form is None:
            if label is not None:
                raise UsageError(f"label {label!r} for a model without classes", "no label", "Fit with --condition label")
            return None
        assert isinstance(form, Label)
        if label is None:
            return torch.arange(n, device=self.device) % len(form.classes)
        names = [label] * n if isinstance(label, str | int) else list(label)
        if len(names) != n:
            raise UsageError(f"{len(names)} labels for {n} samples", "one label, or one a sample")
        return torch.tensor([_class(name, form) for name in names], device=self.device)

    # ---- judging -----------------------------------------------------------------------------------------------------

    def score(
        self, what: str | Path | Sequence[Artifact], *, column: str | None = None, tokens: bool = False
    ) -> "ScoreCard":
        """How probable each item of a file, a folder or a list of artifacts is, and how unusual among held-out ones.

        ``tokens`` adds the log-probability of each symbol. Raises `UsageError` for a family without a likelihood.
        """
        from pieria.scoring import score

        if isinstance(what, str | Path) and Path(what).expanduser().exists():
            collection = self.modality.read(Path(what).expanduser(), column)
        elif isinstance(what, str | Path):
            raise DataError(f"{what} does not exist", "a file, a folder, or a list of artifacts", "Check the path")
        else:
            collection = Collection(list(what))
        try:
            dataset = self.dataset()
            held = dataset.examples("validation") if "validation" in dataset.parts else None
        except DataError:
            held = None  # the run may have been moved to where its data are not
        return score(self.model, self.modality, collection, held, symbols=tokens)

    def evaluate(self, split: str = "test", *, count: int | None = None, seed: int = 0) -> "Scorecard":
        """How good it is: every figure with unit, direction, reference set, count and seed; kept as ``scorecard.json``."""
        from pieria import evaluation

        card = evaluation.evaluate(self.model, self.dataset(), split=split, count=count, seed=seed, cost=self.cost())
        write_json(self.path / "scorecard.json", card.to_json())
        return card

    def audit(self, *, group: str | None = None, count: int | None = None, seed: int = 0) -> dict[str, Any]:
        """May it be published? Overfitting, copies, groups, robustness and cost; kept as ``audit.json`` and ``card.md``."""
        from pieria import audit

        given = {} if count is None else {"count": count}
        found: dict[str, Any] = audit.audit(self.model, self.dataset(), group=group, seed=seed, record=self.record, **given)
        write_json(self.path / "audit.json", found)
        self.card()
        return found

    def card(self) -> str:
        """The model card, from facts alone: the record, and the scorecard and audit as far as there are any."""
        from pieria import audit

        scorecard, found = self._kept("scorecard.json"), self._kept("audit.json")
        text: str = audit.card(self.record, scorecard, found)
        write_atomically(self.path / "card.md", text)
        return text

    def explain(self, *, seed: int = 0) -> Path:
        """One self-contained page: how it works, the trace of a sample, a film of its training."""
        from pieria.explanation.run_page import run_page

        html = run_page(
            title=self.record["name"],
            record=self.record,
            model=self.model,
            modality=self.modality,
            log=self.log(),
            previews=self.previews(),
            seed=seed,
        )
        write_atomically(self.path / "report.html", html)
        return self.path / "report.html"

    def cost(self) -> dict[str, Any]:
        """What learning took: seconds, joules (``source`` says how they were told) and grams of CO2 equivalent."""
        result = self.record.get("result", {})
        return {"seconds": result.get("seconds"), **result.get("cost", {})}

    def _kept(self, name: str) -> Any:
        return read_json(self.path / name) if (self.path / name).exists() else None


# ---- what fitting is made of -----------------------------------------------------------------------------------------


def _preset(family: type[Model], model: str, preset: str | None) -> dict[str, Any]:
    if preset is None:
        return {}
    if preset not in family.presets:
        raise unknown(f"preset of {model}", preset, family.presets)
    return family.presets[preset]


def _modality_of(data: str | Path, as_: str | None, column: str | None) -> type[Modality]:
    from pieria.modalities import finding

    return finding.load(finding.forms_of(str(data), as_, column)[0])


def _open(data: str | Path, **how: Any) -> "Dataset":
    from pieria.modalities.opening import open_data

    return open_data(data, **how)


def _form_for(family: type[Model], kind: type[Modality], model: str) -> str:
    consumed = {form.kind for form in family.consumes}
    for form in kind.forms:
        if form in consumed:
            return form
    raise UsageError(
        f"{model} learns from {' or '.join(sorted(consumed))}",
        f"{kind.name} data come as {' or '.join(kind.forms)}",
        "'pieria models --data DATA' lists the families that fit",
    )


def _wanted(condition: str | None, family: type[Model], dataset: "Dataset") -> Any:
    if condition is None and not family.requires_condition:
        return None
    if condition not in (None, "label"):
        raise unknown("condition", str(condition), ["label"])
    if dataset.condition is None:
        raise UsageError(
            f"{dataset.name} has no labels to be a condition", "data with classes", "Fit it without --condition"
        )
    return dataset.condition


def _previewer(space: Workspace, modality: Modality) -> Any:
    """Draws a few artifacts, always from the same noise, into ``samples/``."""

    def draw(model: Model, step: int) -> None:
        form = model.form
        stream = isinstance(form, Tokens) and form.end is None
        n = 2 if stream else PREVIEWED
        has_length = stream and "length" in model.Sampling.model_fields
        options = model.Sampling.of({"length": PREVIEWED_LENGTH} if has_length else {})
        device = next((t.device for t in [*model.parameters(), *model.buffers()]), torch.device("cpu"))
        classes = len(model.condition.classes) if isinstance(model.condition, Label) else 0
        condition = torch.arange(n, device=device) % classes if classes else None
        drawn = modality.decode(model.sample(n, options, ItemNoise(PREVIEW_SEED, n), condition).cpu())
        said = {"pieria": space.record["name"], "step": str(step)}
        modality.preview(drawn, space.path / "samples" / f"step-{step:08d}", said)

    return draw


def _facts(
    data: str | Path,
    as_: str | None,
    column: str | None,
    form: str | None,
    dataset: "Dataset",
) -> dict[str, Any]:
    from pieria.data import catalogue

    return {
        "name": dataset.name,
        "asked": str(data) if str(data) in catalogue.names() else str(Path(data).expanduser().resolve()),
        "as": as_,
        "column": column,
        "form": form,
        "modality": dataset.modality.name,
        "fingerprint": dataset.fingerprint,
        "licence": dataset.licence,
        "consent": dataset.consent,
        "source": dataset.source,
        "counts": {part: len(collection) for part, collection in dataset.parts.items()},
        "findings": list(dataset.findings),
        "reason": dataset.reason,
    }


def _reopened(record: Mapping[str, Any], modality: Modality) -> "Dataset":
    """The data of a run, read again and encoded as it did; `DataError` if they are not the same any more."""
    said = record["data"]
    dataset = _open(
        said["asked"],
        as_=said["as"],
        column=said["column"],
        form=said["form"],
        modality=modality,
        licence=said["licence"],
        consent=said["consent"],
    )
    if dataset.fingerprint != said["fingerprint"]:
        raise DataError(
            f"{said['asked']} has changed since {record['name']} was fitted to it",
            f"the data with the fingerprint {said['fingerprint']}",
            "Restore the data, or fit again",
        )
    return dataset


def _modality_record(modality: Modality) -> dict[str, Any]:
    return {
        "modality": modality.name,
        "settings": modality.settings.model_dump(mode="json"),
        "state": modality.state(),
    }


def _read_modality(path: Path) -> Modality:
    from pieria.modalities import finding

    said = read_json(path / "modality" / "modality.json")
    try:
        kind = finding.load(said["modality"])
        return kind.restore(kind.Settings.of(said["settings"]), said["state"])
    except (KeyError, TypeError, PieriaError) as error:
        raise RunError(
            f"{path / 'modality' / 'modality.json'} is damaged ({error})",
            "the modality as Pieria wrote it",
            "Restore it from a copy, or fit again",
        ) from None


def _class(name: str | int, form: Label) -> int:
    if isinstance(name, int) and 0 <= name < len(form.classes):
        return name
    if str(name) in form.classes:
        return form.classes.index(str(name))
    raise unknown("class", str(name), form.classes)


def _repeat(plan: Plan, totals: Sequence[Mapping[str, int]]) -> list[str]:
    """What turns a budget in seconds into the same number of steps: options of ``pieria fit``."""
    if plan.seconds is None or len(totals) != 1:
        return []
    words = ["--steps", str(totals[0]["steps"])]
    if totals[0]["evaluate_every"] != plan.evaluates(totals[0]["steps"]):
        words += ["--set", f"evaluate_every={totals[0]['evaluate_every']}"]
    return words


def _command(asked: Mapping[str, Any]) -> str:
    """The command line that does the same."""
    words = ["pieria", "fit", str(asked["data"]), "--model", str(asked["model"])]
    options = ("as_", "column", "form", "preset", "steps", "epochs", "time", "condition", "seed", "start_from", "device")
    for name in options:
        if asked[name] is not None:
            words += [f"--{name.strip('_').replace('_', '-')}", str(asked[name])]
    for name, value in (asked["settings"] or {}).items():
        words += ["--set", f"{name}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}"]
    return shlex.join(words)


def _versions() -> dict[str, str]:
    known = {name: version(name) for name in ("torch", "numpy", "safetensors")}
    from pieria import __version__

    return {"pieria": __version__, "python": platform.python_version(), "platform": platform.platform(), **known}


def _say_what(record: Mapping[str, Any], path: Path) -> None:
    import sys

    model, plan = record["model"], record["plan"]
    budget = next((f"{plan[name]:g} {name}" for name in ("steps", "epochs", "seconds") if plan[name]), "1000 steps")
    print(
        f"would fit {model['family']} ({model['parameters']:,} parameters) to {record['data']['name']} for {budget} "
        f"on {record['device']}, and write {path}",
        file=sys.stderr,
    )

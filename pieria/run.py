"""``pieria.fit`` and ``pieria.load``, and the `Run` that both return: a trained model with all that belongs to it.

A run is a directory (see `pieria.training.workspace`). Loading one executes nothing from it: weights are safetensors, the
rest is JSON; a family of one's own is imported from the file that its user named, never from the run.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pieria import fitting, keeping
from pieria.data import progress
from pieria.data.storage import read_json, write_atomically, write_json
from pieria.errors import DataError, UsageError
from pieria.forms import Grid, Tokens
from pieria.latent.verbs import HasLatent
from pieria.making import Makes
from pieria.modalities.contract import Artifact, Modality
from pieria.models.contract import Hides, Model, device_of, learned_numbers
from pieria.training import workspace as directory
from pieria.training.loop import device_wanted
from pieria.training.plan import Plan, seconds_of
from pieria.training.processes import Processes, choose_device
from pieria.training.workspace import Workspace

if TYPE_CHECKING:
    from pieria.evaluation import Scorecard
    from pieria.modalities.opening import Dataset
    from pieria.scoring import ScoreCard

__all__ = ["Run", "fit", "import_model", "load", "mix"]


def fit(
    data: str | Path | None = None,
    model: str | None = None,
    *,
    as_: str | None = None,
    column: str | None = None,
    form: str | None = None,
    to: str | Path | None = None,
    target: str | None = None,
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
        to: the other side of ``data``: a file whose line i belongs to line i of ``data``, what is to be made of it.
        target: a column that is to be told from the texts of another one; the model is "discriminative" then.
        preset: a named set of hyperparameters; every family has "tiny".
        out: the run directory; the next number in ``runs/`` if not given.
        steps, epochs, time: the budget, one of them; time in seconds or in words ("60s", "10m").
        condition: "label" learns to draw a class that is asked for, "prompt" to answer to a text,
            "caption" to draw what is said.
        seed: what every random draw follows from.
        resume: go on with the run in this directory; of what it was begun with, only the budget (a larger ``steps`` or
            ``epochs``) and the ``device`` can be changed.
        start_from: begin with the weights of this run, encoding the data as it did: settings that would encode them
            otherwise are refused. The default learning rate is a tenth of the family's (of ``discriminative`` a fifth).
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
        own: dict[str, Any] = {"data": data, "model": model, "as": as_, "column": column, "form": form, "to": to}
        own |= {
            "preset": preset,
            "out": out,
            "condition": condition,
            "seed": seed,
            "start_from": start_from,
            "settings": settings,
        }
        own |= {"target": target}
        own |= {"licence": licence, "consent": consent}
        if fixed := [name for name, value in own.items() if value]:
            raise UsageError(
                f"{', '.join(fixed)} for {resume}, which goes on as it was begun",
                "no more than steps, epochs or a device",
                "Leave the rest out, or begin a new run, with start_from if it is to have these weights",
            )
        record, plan = fitting.resumable(Path(resume), asked)
        if dry_run:
            on = {"device": record["device"] if device is None else str(choose_device(device))}
            fitting.say_what({**record, **on}, plan, Path(resume), resume=True)
            return None
        with progress.quietly(quiet):
            going_on = fitting.resumed(Path(resume), record, plan)
        return _learned(*going_on, resume=True, quiet=quiet)
    if target is not None:
        model, as_ = model or "discriminative", "labelled"
    if data is None or model is None:
        raise UsageError("fit needs data and a model", "fit(DATA, MODEL), or fit(resume=RUN)")
    with progress.quietly(quiet):
        net, dataset, plan = fitting.prepared(
            data,
            model,
            asked,
            as_=as_,
            column=column,
            form=form,
            to=to,
            target=target,
            preset=preset,
            condition=condition,
            seed=seed,
            start_from=start_from,
            settings=settings or {},
            licence=licence,
            consent=consent,
        )
    options = {
        "as": as_,
        "column": column,
        "form": form,
        "to": to,
        "target": target,
        "preset": preset,
        "steps": steps,
        "epochs": epochs,
        "time": time,
        "condition": condition,
        "seed": seed,
        "start-from": start_from,
        "device": device,
        "licence": licence,
        "consent": consent,
    }
    processes = Processes.join(plan.device)
    record = keeping.beginning(
        net,
        plan,
        keeping.facts(data, as_, column, form, dataset, to),
        command=keeping.command(data, model, options, settings or {}),
        device=str(choose_device(device_wanted(net, plan))),
        preset=preset,
    )
    record["start_from"] = None if start_from is None else str(Path(start_from).resolve())
    if start_from is not None and (origin := directory.read_record(Path(start_from)).get("imported")):
        record["imported"] = origin  # its licence goes on to bind what is made of it
    name, place = f"{Path(model).stem}-{Path(str(data)).stem}", None if out is None else Path(out)
    if dry_run:
        fitting.say_what(record, plan, place or directory.next_path(name))
        return None
    space = fitting.begun(name, place, record, dataset.modality, processes)
    return _learned(net, dataset, plan, space, resume=False, quiet=quiet)


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
        if _encoding(run.modality) != _encoding(first.modality):
            raise UsageError(
                f"{run.path} encodes the data otherwise than {first.path}",
                "runs whose symbols and columns mean the same",
                "Fit them with the same settings of the modality",
            )
    net = fitting.mixed([run.model for run in loaded])
    dataset, plan = first.dataset(), Plan.of({"seed": seed})
    command = shlex.join(["pieria", "mix", *(str(run.path) for run in loaded), "--seed", str(seed)])
    record = keeping.beginning(net, plan, first.record["data"], command=command, device="cpu", preset=None)
    record["mixed"] = [str(run.path.resolve()) for run in loaded]
    name, place = f"mix-{Path(dataset.name).stem}", None if out is None else Path(out)
    space = Workspace.create(place, name, record, keeping.modality_file(dataset.modality))
    return _learned(net, dataset, plan, space, resume=False, quiet=quiet)


def _encoding(modality: Modality) -> dict[str, Any]:
    """What a modality has learned of how to encode, but for a window's length, in which parts of a mixture may differ."""
    return {name: value for name, value in modality.state().items() if name != "length"}


def _learned(net: Model, dataset: "Dataset", plan: Plan, space: Workspace, *, resume: bool, quiet: bool) -> "Run":
    fitting.learned(net, dataset, plan, space, resume=resume, quiet=quiet)
    return Run(space.path, net.eval(), dataset.modality, space.record, dataset)


def load(path: str | Path, *, device: str | None = None) -> "Run":
    """The run in the directory at ``path``, on ``device`` (the processor if none is named); nothing from it is executed.

    Raises `RunError` for a directory that is no run, that is damaged, of a newer format, or has no weights yet.
    """
    return Run(*keeping.restored(path, device))


def import_model(
    source: str | Path,
    *,
    out: str | Path | None = None,
    data: str | Path | None = None,
    column: str | None = None,
    length: int = 0,
    tokenizer: str = "auto",
    items: str = "auto",
    revision: str | None = None,
    dry_run: bool = False,
) -> "Run | None":
    """A run from a model that was made elsewhere; nothing that comes with it is executed.

    Args:
        source: an ARPA file of n-grams (gzipped or not), a directory in the model hub's format (config.json, safetensors,
            tokenizer.json), or the id of a model on the hub.
        out: the run directory; the next number in ``runs/`` if not given.
        data, column: what it is to be evaluated and audited on, encoded as it has it.
        length: symbols in a window or an item, if not as many as the model can read.
        tokenizer: what an entry of an ARPA file is: "word", "char", or "auto" to look.
        items: of a checkpoint: "stream", "lines" (texts that end), or "auto": lines for a model that chats.
        revision: of a model on the hub: a branch, a tag or a commit.
        dry_run: check everything, say what would be done, write nothing, return None.

    Raises `DataError` for what cannot be read (pickled weights, code to be run, missing shards, wrong shapes, an unknown
    architecture, a tokenizer that does not match) and `UsageError` for options that the source does not take.
    """
    from pieria.hub import bringing

    wishes = bringing.Wishes(length, tokenizer, items, revision)
    brought = bringing.bring(str(source), wishes)
    family = type(brought.model).__name__
    for sentence in brought.findings:
        print(sentence, file=sys.stderr)
    place = None if out is None else Path(out)
    if dry_run:
        size, how = learned_numbers(brought.model)
        where = place or directory.next_path(brought.name)
        print(f"would import {source} as {family} ({size:,} {how}) and write {where}", file=sys.stderr)
        return None
    options = {"data": data, "column": column, "length": length or None, "revision": revision}
    options |= {name: value for name, value in (("tokenizer", tokenizer), ("items", items)) if value != "auto"}
    command = ["pieria", "import", str(source)]
    command += [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    return load(bringing.settle(brought, out=place, data=data, column=column, command=command))


class Run(Makes, HasLatent):
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
        return device_of(self.model)

    def dataset(self) -> "Dataset":
        """The data that it was fitted to, read again; `DataError` if they have changed since."""
        if self._dataset is None:
            self._dataset = keeping.reopened(self.record, self.modality)
        return self._dataset

    def log(self) -> list[dict[str, Any]]:
        """The lines of its log."""
        return directory.read_log(self.path)

    def previews(self) -> list[Path]:
        """What it drew while it learned, always from the same noise, in order."""
        return sorted((self.path / "samples").glob("step-*"))

    # ---- judging -----------------------------------------------------------------------------------------------------

    def score(
        self, what: str | Path | Sequence[Artifact], *, column: str | None = None, tokens: bool = False
    ) -> "ScoreCard":
        """How probable each item of a file, a folder or a list of artifacts is, and how unusual among held-out ones.

        ``tokens`` adds the log-probability of each symbol. Raises `UsageError` for a family without a likelihood.
        """
        from pieria import scoring

        collection = scoring.collected(self.model, self.modality, what, column)
        try:
            dataset = self.dataset()
            held = dataset.examples("validation") if "validation" in dataset.parts else None
        except DataError:
            held = None  # the run may have been moved to where its data are not
        return scoring.score(self.model, self.modality, collection, held, symbols=tokens)

    def states(
        self, what: str | Path | Sequence[Artifact], *, posterior: bool = False, column: str | None = None
    ) -> list[list[int]] | list[Tensor]:
        """The hidden states behind each item of a file, a folder or a list of artifacts, one a symbol or point.

        The most probable path (Viterbi), or with ``posterior`` the probability of each state at each place given the whole
        item, ``[place, state]``. The end of a text is not among its places; one stream is one item.

        Raises `UsageError` for a family without hidden states.
        """
        from pieria import scoring

        if not isinstance(self.model, Hides):
            raise UsageError(
                f"{self.record['model']['family']} has no hidden states", "a family that has, such as hmm", "Fit one"
            )
        return scoring.hidden(
            self.model, self.modality, scoring.collected(self.model, self.modality, what, column), posterior
        )

    def evaluate(
        self, split: str = "test", *, count: int | None = None, seed: int = 0, features: str | None = None
    ) -> "Scorecard":
        """How good it is: every figure with unit, direction, reference set, count and seed; kept as ``scorecard.json``.

        ``features`` of pictures are those of "pieria", the small network that comes with the package, or of "inception".
        """
        from pieria import evaluation

        card = evaluation.evaluate(
            self.model, self.dataset(), split=split, count=count, seed=seed, cost=self.cost(), features=features
        )
        # each figure names its run, wherever it is copied to
        write_json(self.path / "scorecard.json", [{**figure, "run": self.record["name"]} for figure in card.to_json()])
        return card

    def audit(self, *, group: str | None = None, count: int | None = None, seed: int = 0) -> dict[str, Any]:
        """May it be published? Overfitting, copies, groups, robustness and cost; kept as ``audit.json`` and ``card.md``."""
        from pieria import audit

        found: dict[str, Any] = audit.audit(
            self.model, self.dataset(), group=group, count=count, seed=seed, record=self.record
        )
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
            condition=self._some_condition(),
        )
        write_atomically(self.path / "report.html", html)
        return self.path / "report.html"

    def export(self, to: str, out: str | Path) -> list[str]:
        """Write the model for other tools: ``to`` is "arpa" (an n-gram's file) or "transformers" (a directory).

        Returns what a reader of it must know, each a line. Raises `UsageError` for a family or settings that the format has
        no place for.
        """
        from pieria.hub import taking

        return taking.take(self.model, self.modality, to, Path(out), self.card() if to == "transformers" else "")

    def _some_condition(self) -> Tensor | None:
        """What one sample is drawn under where it is explained: the first class, or the first held-out prompt or picture."""
        if self.model.condition is None:
            return None
        if isinstance(self.model.condition, Tokens | Grid):
            try:
                dataset = self.dataset()
            except DataError:
                return None  # the run may have been moved to where its data are not
            prompts = dataset.examples("validation" if "validation" in dataset.parts else "train").batch([0]).condition
            return None if prompts is None else prompts.to(self.device)
        return torch.zeros(1, dtype=torch.int64, device=self.device)

    def cost(self) -> dict[str, Any]:
        """What learning took: seconds, joules (``source`` says how they were told) and grams of CO2 equivalent."""
        result = self.record.get("result", {})
        return {"seconds": result.get("seconds"), **result.get("cost", {})}

    def _kept(self, name: str) -> Any:
        return read_json(self.path / name) if (self.path / name).exists() else None

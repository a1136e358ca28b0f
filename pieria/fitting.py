"""What fitting is made of: what was asked is settled, the data are opened, the model learns in a run directory."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pieria import keeping, registry
from pieria.data.examples import Examples
from pieria.errors import DataError, UsageError, unknown
from pieria.evaluation.comparison import spread
from pieria.evaluation.replies import answer, replies_of
from pieria.forms import Form, Grid, Label, Tokens
from pieria.modalities.contract import Modality
from pieria.modalities.labelled import Labelled, LabelledSettings
from pieria.models import weights
from pieria.models.contract import Adopts, Model, Predicts, Spells, device_of, display_of
from pieria.noise import ItemNoise, seeded
from pieria.settings import Settings, assign
from pieria.training import workspace as directory
from pieria.training.loop import device_wanted, learn
from pieria.training.plan import BUDGETS, DEFAULT_STEPS, Plan
from pieria.training.processes import Processes, choose_device
from pieria.training.progress import shown
from pieria.training.workspace import Workspace

if TYPE_CHECKING:
    from pieria.modalities.opening import Dataset

CONDITIONS: dict[str, type[Form]] = {"label": Label, "prompt": Tokens, "caption": Tokens}
PREVIEWED, PREVIEWED_LENGTH, PREVIEW_SEED = 16, 200, 0  # items (2 of a stream), symbols of a stream
PREVIEWED_REPLIES = 4

# ---- what was asked --------------------------------------------------------------------------------------------------


def prepared(
    data: str | Path,
    model: str,
    budget: Mapping[str, Any],
    *,
    as_: str | None,
    column: str | None,
    form: str | None,
    to: str | Path | None,
    target: str | None,
    preset: str | None,
    condition: str | None,
    seed: int,
    start_from: str | Path | None,
    settings: Mapping[str, Any],
    licence: str | None,
    consent: str | None,
) -> tuple[Model, "Dataset", Plan]:
    """The model with its first weights, the data that it learns from, and the plan; the arguments are those of `fit`.

    Of each setting the last one said holds: default, the family's default for training, preset, ``settings``, ``budget``.
    With ``start_from``, the default rate is the family's ``tuning`` share of the one that is made for random weights.
    """
    from pieria.modalities.opening import open_data

    family = registry.find(model)
    preset_values = _preset(family, model, preset)
    earlier = None if start_from is None else keeping.restored(start_from)
    reading = None if earlier is None else _reading(earlier.modality, data, as_, column)
    kind = type(reading) if reading is not None else _modality_of(data, as_, column)
    if target is not None:
        kind = Labelled
    owners: list[type[Settings]] = [family.Settings, Plan, kind.Settings]
    default = assign(family.training_defaults, owners)
    named = assign(preset_values, owners)
    own = assign(settings, owners)
    if earlier is not None:
        default[1]["rate"] = family.tuning * Plan.of(default[1]).rate
    plan = Plan.layered(default[1], named[1], {"seed": seed}, own[1], budget)
    if plan.lora_rank and earlier is None:
        raise UsageError(
            f"lora_rank={plan.lora_rank} for a model that has learned nothing yet",
            "the run whose weights it changes a little",
            "Give --start-from RUN",
        )
    conditioned = family.requires_condition or condition == "prompt"
    if conditioned and Tokens in family.conditions and "pairs" in kind.Settings.model_fields and target is None:
        default[2].setdefault("pairs", "apart")
    if to is not None and kind.name == "image":
        default[2] |= _partners(family, model, own[2])
    if condition == "caption" and Tokens in family.conditions and "captions" in kind.Settings.model_fields:
        default[2].setdefault("captions", True)
    read = {**default[2], **named[2], **own[2]} | ({} if target is None else {"target": target})
    if target is not None and reading is not None and not isinstance(reading, Labelled):
        reading = Labelled.over(reading, LabelledSettings.of(read))
    if reading is not None:
        _refuse_other(own[2], reading, str(start_from))
    dataset = open_data(
        data,
        as_=as_,
        column=column,
        form=form or _form_for(family, kind, model),
        to=to,
        settings=read,
        modality=reading,
        licence=licence,
        consent=consent,
    )
    wanted = _condition_of(dataset, family, condition)
    chosen = {**default[0], **named[0], **own[0]}
    if earlier is not None:
        adopted = earlier.record["model"]["family"] in getattr(family, "starts_from", ())
        if type(earlier.model) is not family and not adopted:
            raise UsageError(
                f"{start_from} is a run of {earlier.record['model']['family']}", f"one of {model}", "Name its family"
            )
        known = earlier.model.settings.model_dump()
        if adopted:  # of another family, what this one has too: the part that it begins with
            known = {name: value for name, value in known.items() if name in family.Settings.model_fields}
            named[0] = {name: value for name, value in named[0].items() if name not in known}
            default[0] = {name: value for name, value in default[0].items() if name not in known}
        chosen = {**known, **default[0], **named[0], **own[0]}
    with seeded(plan.seed, "initial weights"):
        net = family(family.Settings.of(chosen), dataset.form, wanted)
    return net, dataset, plan


def _partners(family: type[Model], model: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """How two sets of pictures are to be read for a family; `UsageError` for one that does not turn pictures into others."""
    if Grid not in family.conditions:
        raise UsageError(
            f"--to with pictures, for {model}",
            "a family that turns pictures into others",
            "Take cyclegan or pix2pix, or one set",
        )
    wanted = said.get("partners")
    if wanted is not None and (wanted == "no") != (family.pairing == "unpaired"):
        raise UsageError(
            f"partners={wanted} for {model}",
            "no: it learns from pictures without partners" if wanted != "no" else "pairs: it learns from nothing else",
            f"Leave it out, or take {'pix2pix' if wanted != 'no' else 'cyclegan'}",
        )
    return {"partners": "no" if family.pairing == "unpaired" else "auto"}


def _preset(family: type[Model], model: str, preset: str | None) -> dict[str, Any]:
    if preset is None:
        return {}
    if preset not in family.presets:
        raise unknown(f"preset of {model}", preset, family.presets)
    return family.presets[preset]


def _modality_of(data: str | Path, as_: str | None, column: str | None) -> type[Modality]:
    from pieria.modalities import finding

    return finding.load(finding.forms_of(str(data), as_, column)[0])


def _reading(modality: Modality, data: str | Path, as_: str | None, column: str | None) -> Modality:
    """The modality of a run as it reads these data: a run of text can go on with conversations."""
    from pieria.modalities.chat import Chat
    from pieria.modalities.text import Text

    if isinstance(modality, Text) and _modality_of(data, as_, column) is Chat:
        return Chat.beside(modality)
    return modality


def _refuse_other(said: Mapping[str, Any], reading: Modality, start_from: str) -> None:
    """`UsageError` for a setting of the modality that would change how an earlier run encodes: it would be ignored."""
    kept = reading.settings
    learned = reading.state() if getattr(reading, "learned", True) else {}  # targets may be still to be learned
    for name, value in said.items():
        wanted = getattr(type(kept).of({name: value}), name)
        now = learned.get(name, getattr(kept, name))
        if wanted not in (now, getattr(kept, name)):
            raise UsageError(
                f"setting {name} = {value} with --start-from {start_from}, which goes on reading as it learned to",
                f"{name} = {now}, as that run has it",
                f"Leave {name} out, or fit a run of its own without --start-from",
            )


def _form_for(family: type[Model], kind: type[Modality], model: str) -> str:
    consumed = {form.kind for form in family.consumes}
    for form in kind.forms:
        if form in consumed:
            return form
    raise UsageError(
        f"{model} learns from {' or '.join(sorted(consumed))}, and {kind.name} data come as {' or '.join(kind.forms)}",
        f"a family that learns from {' or '.join(kind.forms)}",
        "'pieria models --data DATA' lists the families that fit",
    )


def _condition_of(dataset: "Dataset", family: type[Model], condition: str | None) -> Form | None:
    if condition is None and not family.requires_condition:
        return None
    if condition not in (None, *CONDITIONS):
        raise unknown("condition", str(condition), CONDITIONS)
    wanted = family.conditions if condition is None else {CONDITIONS[condition]}
    offered = dataset.condition
    if not wanted <= family.conditions:
        raise UsageError(
            f"{family.__name__} was given a condition ({condition})",
            "it takes none of that kind",
            "Fit it without --condition, or choose a family that takes one",
        )
    if wanted == {Grid} and not isinstance(offered, Grid):
        raise UsageError(
            f"{dataset.name} alone, for a family that turns pictures of one kind into those of another",
            "two sets of pictures",
            "Name the other one: --to FOLDER",
        )
    if Tokens in wanted and Label not in wanted and not isinstance(offered, Tokens):
        raise UsageError(
            f"{dataset.name} holds no pairs of a prompt and its completion",
            'records of {"prompt", "completion"}, or two files whose lines belong together (--to)',
            "'pieria data' lists sets of pairs, such as multi30k",
        )
    if isinstance(offered, Label):
        _refuse_untaught(dataset)
    if offered is None or type(offered) not in wanted:
        raise UsageError(
            f"{dataset.name} has no labels to be a condition", "data with classes", "Fit it without --condition"
        )
    return offered


def _refuse_untaught(dataset: "Dataset") -> None:
    """`DataError` for a class of which nothing trains: a model would draw it from what it has never seen."""
    train = dataset.parts["train"]
    taught = set(train.labels or ())
    missing = [name for code, name in enumerate(train.classes) if code not in taught]
    if missing:
        some = ", ".join(repr(name) for name in missing[:3]) + (" …" if len(missing) > 3 else "")
        raise DataError(
            f"{dataset.name} has no training item of the class{'es' if len(missing) > 1 else ''} {some}: the few that there "
            "are were held out",
            "several items in each class that a model is to draw",
            "Add more of them, take the class out of the data, or fit without --condition",
        )


def say_what(record: Mapping[str, Any], plan: Plan, path: Path, *, resume: bool = False) -> None:
    """On standard error, what `fit` would do."""
    model, data = record["model"], record["data"]["name"]
    given = {name: getattr(plan, name) for name in BUDGETS if getattr(plan, name) is not None}
    name, amount = next(iter(given.items()), ("steps", DEFAULT_STEPS))
    budget = f"for {amount:,} {name}" if isinstance(amount, int) else f"for {amount:g} {name}"
    if registry.describe(model["family"]).learning == "estimates":
        budget = "in closed form or by counting"
    does = "go on fitting" if resume else "fit"
    print(
        f"would {does} {model['family']} ({model['parameters']:,} parameters) to {data} {budget} on {record['device']}, "
        f"and write {path}",
        file=sys.stderr,
    )


# ---- learning --------------------------------------------------------------------------------------------------------


def begun(name: str, out: Path | None, record: dict[str, Any], modality: Modality, processes: Processes) -> Workspace:
    """The new run directory, which one process makes and writes and all that train together know."""
    if not processes.main:
        return Workspace.open(Path(processes.agree(None)), writer=False)
    space = Workspace.create(out, name, record, keeping.modality_file(modality))
    processes.agree(str(space.path))
    return space


def resumable(path: Path, asked: Mapping[str, Any]) -> tuple[dict[str, Any], Plan]:
    """The record of a run to go on with, and the plan; `UsageError` if it is done, or for a budget that is too small."""
    record = directory.read_record(path)
    more = {name: value for name, value in asked.items() if value is not None}
    plan = Plan.layered(record["plan"], more)
    if record["state"] == "done" and not set(more) - {"device"}:
        raise UsageError(f"{path} is done", "a run that was stopped", "Give a larger --steps to go on with it")
    if "seconds" in more and record.get("totals"):
        settled = sum(stage["steps"] for stage in record["totals"])
        raise UsageError(
            f"--time for {path}, whose budget is settled at {settled} steps", "a number of steps", "Give a larger --steps"
        )
    made = (record.get("result") or {}).get("steps", 0)
    kept = max((int(file.stem) for file in directory.checkpoints_in(path)), default=0)
    if "steps" in more and (more["steps"] <= made or more["steps"] < kept):
        raise UsageError(
            f"--steps {more['steps']} for {path}, which has made {max(made, kept)}",
            "more than it has made",
            "Give more steps",
        )
    return record, plan


def resumed(path: Path, record: Mapping[str, Any], plan: Plan) -> tuple[Model, "Dataset", Plan, Workspace]:
    """What the run at ``path`` learns, from what, by which plan and where."""
    modality = keeping.read_modality(path)
    dataset = keeping.reopened(record, modality)
    processes = Processes.join(plan.device)
    space = Workspace.open(path, writer=processes.main)
    with seeded(plan.seed, "initial weights"):
        net = (
            mixed([keeping.restored(part).model for part in record["mixed"]])
            if "mixed" in record
            else weights.build(record["model"])
        )
    space.note(plan=plan.model_dump(mode="json"), device=str(choose_device(device_wanted(net, plan))))
    return net, dataset, plan, space


def mixed(parts: Sequence[Model]) -> Model:
    """The mixture of fitted models, whose weights are still to be learned."""
    net: Model = registry.find("mix").of(parts)  # type: ignore[attr-defined]  # `of` is Mix's alone, not every Model's
    return net


def learned(net: Model, dataset: "Dataset", plan: Plan, space: Workspace, *, resume: bool, quiet: bool) -> None:
    """Let the model learn; its weights, its log and what came of it are in the run directory then."""
    with space, shown(quiet=quiet or not space.writes) as watch:  # of several processes one speaks
        space.note(state="running", error=None)
        if space.record.get("start_from") and space.newest_checkpoint() is None:
            earlier = keeping.restored(space.record["start_from"]).model
            if isinstance(net, Adopts) and type(earlier) is not type(net):
                net.adopt(earlier)
            else:
                weights.restore(net, earlier.state_dict())
        strings = getattr(dataset.modality, "strings", None)
        if isinstance(net, Spells) and callable(strings):
            net.spell(strings())
        train = dataset.examples("train", training=True)
        validation = dataset.examples("validation") if "validation" in dataset.parts else None
        # encoding may find more than reading did, such as items that had to be cut
        space.note(data={**space.record["data"], "findings": list(dataset.findings)})
        for sentence in (dataset.reason, *dataset.findings) if not resume else ():
            watch.say(sentence)
        preview = _previewer(space, dataset.modality, validation or train) if space.writes else None
        watch = replace(watch, preview=preview)
        try:
            history = learn(net, train, validation, plan, workspace=space, resume=resume, watch=watch)
        except KeyboardInterrupt:
            watch.say(f"stopped at once; go on with: pieria fit --resume {space.path}")
            raise
        if space.writes:
            weights.save(net, space.path / "model.safetensors")
        state = "stopped" if history.ended == "stopped" else "done"
        repeat = keeping.repeat(plan, history.totals, space.record["device"])
        space.note(state=state, finished=directory.now(), result=asdict(history), repeat=repeat)
        if state == "stopped":
            watch.say(
                f"Stopped after step {history.steps:,}, with what was learned so far. "
                f"Go on with: pieria fit --resume {space.path}"
            )


def _previewer(space: Workspace, modality: Modality, asked: Examples) -> Any:
    """Draws a few artifacts, always from the same noise, into ``samples/``: of conversations, what it replies in some."""
    led = replies_of(asked)

    def draw(model: Model, step: int) -> None:
        form = model.form
        said = {"pieria": space.record["name"], "step": str(step)}
        path = space.path / "samples" / f"step-{step:08d}"
        if led is not None and isinstance(model, Predicts) and model.condition is None:
            places = spread(len(led.examples), PREVIEWED_REPLIES).tolist()
            talks: list[Any] = []
            for item, place in enumerate(places):
                lead = led.lead(place)
                made = answer(model, lead, PREVIEWED_LENGTH, led.last, ItemNoise(PREVIEW_SEED, 1, first=item))
                talks += modality.decode(torch.cat([lead, made])[None])
            modality.preview(talks, path, said)
            return
        stream = isinstance(form, Tokens) and form.end is None
        n = 2 if stream else PREVIEWED
        has_length = stream and "length" in model.Sampling.model_fields
        display = display_of(model, **({"length": PREVIEWED_LENGTH} if has_length else {}))
        if display.words:
            said["shown"] = display.words
        device = device_of(model)
        classes = len(model.condition.classes) if isinstance(model.condition, Label) else 0
        condition = torch.arange(n, device=device) % classes if classes else None
        told = isinstance(model.condition, Tokens | Grid)
        # the first held-out ones; of pictures, which often lie in the order of their kinds, some of everywhere
        shown = spread(len(asked), n // 2) if isinstance(form, Grid) else range(min(n, len(asked)))
        prompts = asked.batch(shown).condition if told else None
        if prompts is not None:
            n, condition = len(prompts), prompts.to(device)
        drawn = modality.decode(model.sample(n, display.options, ItemNoise(PREVIEW_SEED, n), condition).cpu())
        if prompts is not None and isinstance(model.condition, Grid):  # each picture beside what it becomes
            drawn = [picture for pair in zip(modality.decode(prompts), drawn, strict=True) for picture in pair]
        elif prompts is not None and not isinstance(form, Grid):
            drawn = [f"{prompt}\n→ {text}" for prompt, text in zip(modality.decode(prompts), drawn, strict=True)]
        modality.preview(drawn, path, said)

    return draw

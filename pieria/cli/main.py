"""``pieria VERB …``: every verb has --help with examples and --json (result on stdout, all else on stderr); exits 0, 1, 2.

Nothing here, nor in the other files of this folder, imports torch before a verb needs it, so that --help answers at once.
"""

import sys

import typer

from pieria.cli import chat, data, draw, embed, explain, fill, fit, hub, judge, latent, models, translate
from pieria.errors import PieriaError

app = typer.Typer(
    name="pieria",
    help="Train, sample, compare, audit and explain every family of generative model, on your own data.",
    epilog="Begin with:  pieria compare digits --models mixture,vae,gan --time 30s",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    data.data,
    models.models,
    fit.fit,
    draw.sample,
    draw.score,
    translate.translate,
    fill.fill,
    fill.predict,
    embed.embed,
    chat.chat,
    judge.evaluate,
    judge.compare,
    judge.mix,
    explain.explain,
    judge.audit,
):
    app.command()(verb)
app.command("import")(hub.import_)
app.command()(hub.export)
app.add_typer(latent.app, name="latent")


def main() -> None:
    """Run the command line; a `PieriaError` becomes one clear line and its exit code.

    Typer sees to the rest: a question put wrongly is exit 2, Ctrl-C 130, a reader of our output that has gone (head) 1.
    """
    try:
        app()
    except PieriaError as error:
        print(f"pieria: {error}", file=sys.stderr)
        sys.exit(error.exit_code)

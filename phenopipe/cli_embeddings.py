"""`phenopipe embeddings`: published embeddings for other tools."""

from typing import Annotated, Literal

import typer

from phenopipe.console import show_progress
from phenopipe.lake import Lake, describe_counts

embeddings = typer.Typer(no_args_is_help=True, help="Published embeddings, for other tools.")


@embeddings.command()
def export(
    out: Annotated[str, typer.Argument(help="The file to write; it must not be there yet.")],
    root: Annotated[
        str, typer.Option("--root", help="The lake's root: a folder or gs://bucket/prefix.")
    ],
    file_format: Annotated[
        Literal["parquet", "csv", "anndata", "pycytominer"],
        typer.Option("--format", help="What OUT is; pycytominer: .parquet, .csv or .csv.gz."),
    ],
    model: Annotated[str, typer.Option("--model", help="The model's name.")] = "classical",
    experiment: Annotated[str | None, typer.Option(help="Only this experiment.")] = None,
    plate: Annotated[str | None, typer.Option(help="Only this plate.")] = None,
    per: Annotated[
        Literal["crop", "field", "well"] | None,
        typer.Option(help="What a row is: means of crops. Default: as embedded; pycytominer well."),
    ] = None,
) -> None:
    """Write a model's embeddings into one file: Parquet, CSV, AnnData or pycytominer's profiles."""
    from phenopipe.embeddings import export_embeddings

    with show_progress(f"export {model}") as on_progress:
        counts = export_embeddings(
            Lake(root),
            model,
            out,
            file_format=file_format,
            per=per,
            experiment=experiment,
            plate=plate,
            on_progress=on_progress,
        )
    print(f"{describe_counts(counts)} in {out}")

"""The output of list commands: a table for people, the documents for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imagesmith.cli.context import print_json
from imagesmith.cli.screen import make_console


@dataclass(frozen=True)
class Listing:
    """Rows under columns; cells are in rich's markup. `documents` is the --json output of the same items."""

    columns: Sequence[str]
    rows: Iterable[Sequence[str]]
    documents: Sequence[object]
    empty: str = ""
    """Printed instead of a table without rows; empty: the empty table is shown."""

    def show(self, *, as_json: bool) -> None:
        if as_json:
            print_json(self.documents)
            return
        # imported late: see screen.make_console
        from rich.table import Table

        table = Table(*self.columns, box=None, pad_edge=False)
        for row in self.rows:
            table.add_row(*row)
        make_console().print(table if table.row_count or not self.empty else self.empty)

"""A picture of the flow as one SVG file: no font, script or image from elsewhere, the same bytes every time."""

from __future__ import annotations

from collections import defaultdict
from textwrap import wrap
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from eventstacks.flow.diagram import COLOURS, DEAD, LOST, OFF_WAY, ON_WAY

if TYPE_CHECKING:
    from eventstacks.flow.diagram import Edge, Node, Picture

MARGIN, GAP, BETWEEN, LANE = (
    28,
    26,
    64,
    22,
)  # px: around, between cards, between columns, between ways below
LINE, HEAD, PADDING = 16, 46, 14  # px: a line of text, the head of a card, left and right inside it
NARROW, WIDE = 168, 330  # px: the width of a card
SMALL, LARGE = (
    6.7,
    9.1,
)  # px: how wide a character is at most, in small (monospace) and large letters


def draw(picture: Picture, title: str) -> str:
    """The whole file, for people who see light or dark pages."""
    layout = _Layout(picture)
    style = (
        "text{font:11px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#475569}"
        ".t{font:600 14px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#0f172a}"
        ".k{font:600 10px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;letter-spacing:.06em}"
        ".l{font:11px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;text-anchor:middle}"
        ".l{paint-order:stroke;stroke:#f8fafc;stroke-width:5px}"
        ".p{fill:#f8fafc}.c{fill:#fff;stroke:#cbd5e1}.e{fill:none;stroke:#64748b;stroke-width:1.6}.h{fill:#64748b}"
        ".d{stroke-dasharray:6 4;stroke:#dc2626}.dh{fill:#dc2626}"
        f".{OFF_WAY}{{opacity:.32}}.e.{ON_WAY}{{stroke:#16a34a;stroke-width:3}}.h.{ON_WAY}{{fill:#16a34a}}"
        f".c.{ON_WAY}{{stroke:#16a34a;stroke-width:2.5}}.e.{LOST},.e.{DEAD}{{stroke:#dc2626;stroke-width:3}}"
        f".h.{LOST},.h.{DEAD}{{fill:#dc2626}}.c.{LOST},.c.{DEAD}{{stroke:#dc2626;stroke-width:2.5}}"
    )
    style += "".join(f".{name}{{fill:{light}}}" for name, (light, _) in COLOURS.items())
    dark = (
        ".p{fill:#0f172a}.l{stroke:#0f172a}.c{fill:#1e293b;stroke:#475569}text{fill:#94a3b8}.t{fill:#f1f5f9}"
        ".e{stroke:#94a3b8}.h{fill:#94a3b8}.d{stroke:#f87171}.dh{fill:#f87171}"
    ) + "".join(f".{name}{{fill:{shade}}}" for name, (_, shade) in COLOURS.items())
    size = f'viewBox="0 0 {layout.width} {layout.height}" width="{layout.width}" height="{layout.height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{style}@media(prefers-color-scheme:dark){{{dark}}}</style>",
        f'<rect class="p" width="{layout.width}" height="{layout.height}" rx="12"/>',
        *(layout.edge(edge) for edge in picture.edges),
        *dict.fromkeys(layout.labels),
        *(layout.card(node) for node in picture.nodes.values()),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


class _Layout:
    """Columns of cards. A card stands at the height of what points at it, as far as there is room."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.labels: list[str] = []
        columns: dict[int, list[Node]] = defaultdict(list)
        for node in picture.nodes.values():
            columns[node.rank].append(node)
        self.left: dict[int, float] = {}
        self.widths: dict[int, int] = {}
        right = float(MARGIN)
        for rank in sorted(columns):
            self.left[rank], self.widths[rank] = right, max(map(_width, columns[rank]))
            leaving = [
                len(one.label) for one in picture.edges if picture.nodes[one.source].rank == rank
            ]
            gap = max(BETWEEN, *(letters * SMALL + 36 for letters in leaving), 0)
            right += self.widths[rank] + (gap if rank != max(columns) else 0)
        self.width = round(right + MARGIN)
        self.top: dict[str, float] = {}
        tallest = max(
            (sum(map(_height, nodes)) + GAP * (len(nodes) - 1) for nodes in columns.values()),
            default=0,
        )
        for rank in sorted(columns):
            self._stack(columns[rank], tallest)
        self.bottom = MARGIN + tallest
        self.far = [one for one in picture.edges if self._is_far(one)]
        # What goes under the cards has a lane of its own for each place that it comes from.
        self.lanes = sorted({one.source for one in self.far}, key=list(picture.nodes).index)
        self.height = round(self.bottom + LANE * len(self.lanes) + MARGIN)

    def _stack(self, nodes: list[Node], tallest: float) -> None:
        def wanted(node: Node) -> float:
            before = [
                one.source
                for one in self.picture.edges
                if one.target == node.key and one.source in self.top
            ]
            return sum(map(self._middle, before)) / len(before) if before else MARGIN + tallest / 2

        # In the order of what points at them, so that arrows do not cross; then as near to it as there is room.
        whole = sum(map(_height, nodes)) + GAP * (len(nodes) - 1)
        y = sum(map(wanted, nodes)) / len(nodes) - whole / 2
        y = round(min(max(y, MARGIN), MARGIN + tallest - whole))
        for node in sorted(nodes, key=wanted):
            self.top[node.key] = y
            y += _height(node) + GAP

    def _middle(self, key: str) -> float:
        return self.top[key] + _height(self.picture.nodes[key]) / 2

    def _is_far(self, edge: Edge) -> bool:
        """Whether cards of other columns lie between: then the way goes below them."""
        nodes = self.picture.nodes
        return nodes[edge.target].rank - nodes[edge.source].rank != 1

    def card(self, node: Node) -> str:
        x, y, width, height = (
            self.left[node.rank],
            self.top[node.key],
            self.widths[node.rank],
            _height(node),
        )
        title = _cut(node.title, int((width - 2 * PADDING) / LARGE))
        texts = [("k " + node.colour, 18.0, node.kind.upper()), ("t", 36.0, title)]
        texts += [
            ("", HEAD + LINE * (number + 0.75), line) for number, line in enumerate(_wrap(node))
        ]
        whole = escape("\n".join([f"{node.kind} {node.title}", *node.lines]))
        corner = f"h-2a6 6 0 0 0-6 6v{height - 12}a6 6 0 0 0 6 6h2a4 4 0 0 1-3-4v-{height - 8}a4 4 0 0 1 3-4z"
        letters = "".join(
            f'<text class="{name}" x="{x + PADDING:g}" y="{y + down:g}" xml:space="preserve">{escape(text)}</text>'
            for name, down, text in texts
        )
        return (
            f'<g class="{node.mark}"><title>{whole}</title>'
            f'<rect class="c {node.mark}" x="{x:g}" y="{y:g}" width="{width}" height="{height}" rx="8"/>'
            f'<path class="{node.colour}" d="M{x + 8:g} {y:g}{corner}"/>{letters}</g>'
        )

    def edge(self, edge: Edge) -> str:
        nodes = self.picture.nodes
        source, target = nodes[edge.source], nodes[edge.target]
        x, y = self.left[source.rank] + self.widths[source.rank], self._port(edge, edge.source)
        end, height = self.left[target.rank], self._port(edge, edge.target)
        head, label = f"M{end:g} {height:g}l-10-5v10z", ((x + end) / 2 - 4, (y + height) / 2 + 4)
        if edge in self.far:
            number = self.lanes.index(edge.source)
            lane, aside = self.bottom + LANE * (number + 0.7), 14 + 7 * number
            if self._is_lowest(source):
                x -= self.widths[source.rank] / 2
                path = (
                    f"M{x:g} {self.top[edge.source] + _height(source):g}V{lane - 10:g}q0 10 10 10"
                )
            else:  # down between the columns
                y = self.top[edge.source] + _height(source) - 10
                path = f"M{x:g} {y:g}h{aside - 10}q10 0 10 10V{lane - 10:g}q0 10 10 10"
            if self._is_lowest(target):
                end, height = (
                    end + self.widths[target.rank] / 2,
                    self.top[edge.target] + _height(target),
                )
                path += f"H{end - 10:g}q10 0 10-10V{height + 9:g}"
                head = f"M{end:g} {height:g}l-5 10h10z"
            else:
                path += f"H{end - aside - 20:g}q10 0 10-10V{height + 10:g}q0-10 10-10H{end - 9:g}"
            label = (x + aside + 64, lane + 4)
        else:
            bend = (end - x) / 2
            path = f"M{x:g} {y:g}C{x + bend:g} {y:g} {end - bend - 8:g} {height:g} {end - 8:g} {height:g}"
        dashed = (" d", " dh") if edge.dashed else ("", "")
        mark = edge.mark
        off = OFF_WAY if mark == OFF_WAY else ""
        if edge.label:  # written when all arrows are drawn, so that none crosses it
            self.labels.append(
                f'<text class="l {off}" x="{label[0]:g}" y="{label[1]:g}">{escape(edge.label)}</text>'
            )
        arrow = f'<path class="e{dashed[0]} {mark}" d="{path}"/><path class="h{dashed[1]} {mark}" d="{head}"/>'
        return f'<g class="{off}">{arrow}</g>'

    def _is_lowest(self, node: Node) -> bool:
        return all(
            self.top[one.key] <= self.top[node.key]
            for one in self.picture.nodes.values()
            if one.rank == node.rank
        )

    def _port(self, edge: Edge, key: str) -> float:
        """Where at the side of a card an arrow begins or ends: they share the side, in the order of the other ends."""
        outgoing = edge.source == key
        others = [
            one
            for one in self.picture.edges
            if (one.source if outgoing else one.target) == key and one not in self.far
        ]
        others.sort(key=lambda one: self._middle(one.target if outgoing else one.source))
        height = _height(self.picture.nodes[key])
        place = others.index(edge) + 1 if edge in others else 1
        return self.top[key] + height * place / (len(others) + 1)


def _width(node: Node) -> int:
    longest = max(
        [len(node.title) * LARGE, len(node.kind) * 8, *(len(line) * SMALL for line in node.lines)]
    )
    return round(min(max(longest + 2 * PADDING, NARROW), WIDE))


def _wrap(node: Node) -> list[str]:
    """The lines of a card, those that are too long on two."""
    letters = int((_width(node) - 2 * PADDING) / SMALL)
    return [
        part
        for line in node.lines
        for part in wrap(
            line,
            letters,
            subsequent_indent="  ",
            max_lines=2,
            placeholder=" …",
            break_on_hyphens=False,
        )
    ]


def _height(node: Node) -> int:
    return HEAD + LINE * len(_wrap(node)) + (10 if node.lines else 4)


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"

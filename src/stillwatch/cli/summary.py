"""summary: the findings on a terminal, in words a person understands.

Values from logs are hostile: they become `rich.text.Text`, never markup, after `words.plain` has taken out what would
steer a terminal. Colour is the console's business, so NO_COLOR and pipes are honoured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import HORIZONTALS, ROUNDED
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stillwatch.dossier import words
from stillwatch.dossier.cases import Case, bars_of, cases_of, leads_of
from stillwatch.dossier.findings import Findings
from stillwatch.dossier.lineage import ancestry, gone_in_words, is_dismissed, memory_of, reviewed
from stillwatch.dossier.provenance import Provenance, provenance_of, verdict
from stillwatch.records import Trait
from stillwatch.settings import Bars

MAX_CAMPAIGNS = 10
MAX_LEADS = 6
MAX_TRAITS = 4
MAX_REJECTS = 8
MAX_GONE = 4
MAX_WIDTH = 110

POORER = str.maketrans({words.MINUS: "-", words.DASH: "-", "…": "...", "∞": "infinite"})
"""What our own words fall back to on a terminal that cannot show them."""


def print_summary(console: Console, findings: Findings, *, report: str | Path | None = None) -> None:
    """Print what was found, how sure it is and what was not looked at; `report` is the path of report.html.

    At most ten campaigns and six leads are shown; what is left out is counted, and its file named.
    """
    scan, bars = provenance_of(findings), bars_of(findings.run)
    cases = cases_of(findings, n_cases=MAX_CAMPAIGNS, n_members=0)
    parts: list[RenderableType] = [Text(), *_verdict(findings, scan)]
    parts += [_panel(case, bars) for case in cases]
    if findings.campaigns.num_rows > len(cases):
        parts.append(
            _aside(f"{words.count(findings.campaigns.num_rows - len(cases))} more campaigns: see campaigns.parquet.")
        )
    if cases:
        parts.append(
            _aside("Bits: ordinary traffic reaches 10 bits at most once in 1,024 tries; each further bit halves that.")
        )
    if findings.leads.num_rows:
        parts += [Text(), _leads(findings)]
    parts += [Text(), _scanned(scan), *_remembered(findings)]
    if report is not None:
        parts += [Text(), Text.assemble(("Report  ", "bold"), _say(report, cells=2_000), overflow="fold")]
    print_parts(console, parts)


def print_parts(console: Console, parts: list[RenderableType]) -> None:
    """Print, at most `MAX_WIDTH` wide, with plainer characters where the terminal has no others."""
    width = min(console.width, MAX_WIDTH)
    whole = Group(*parts)
    if console.encoding.startswith("utf"):
        console.print(whole, width=width, highlight=False, markup=False, emoji=False)
        return
    with console.capture() as captured:
        console.print(whole, width=width, highlight=False, markup=False, emoji=False)
    poorer = captured.get().translate(POORER)
    console.out(poorer.encode(console.encoding, "backslashreplace").decode(console.encoding), end="", highlight=False)


def _verdict(findings: Findings, scan: Provenance) -> list[RenderableType]:
    says, extent = verdict(findings)
    read = f"{words.counted(scan.rows_kept, 'exchange')}, {words.counted(len(scan.files), 'file')}, {scan.period}"
    return [Text(says, style="bold"), Text(extent), Text(words.plain(read), style="dim"), Text()]


def _panel(case: Case, bars: Bars) -> RenderableType:
    campaign = case.campaign
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True, min_width=15)
    grid.add_column(overflow="fold")
    tokens = f"{words.count(campaign.input_tokens)} in, {words.count(campaign.output_tokens)} out"
    accounts = words.counted(campaign.n_accounts, "account")
    named = (
        "" if case.n_members == campaign.n_accounts else f", {words.count(case.n_members)} of them sure enough to name"
    )
    grid.add_row("members", Text(accounts + named))
    grid.add_row(
        "exchanges",
        Text(f"{words.count(campaign.n_exchanges)}, {words.period(campaign.first_seen, campaign.last_seen)}"),
    )
    grid.add_row("tokens", Text(tokens))
    grid.add_row("one operator?", _bits(campaign.operator_bits, bars.operator_bits_min))
    grid.add_row("a harvest?", _bits(campaign.harvest_bits, bars.harvest_bits_min))
    grid.add_row("innocent?", _innocent(case, bars))
    for at, trait in enumerate(case.traits[:MAX_TRAITS]):
        grid.add_row("they share" if at == 0 else "", _trait(trait))
    if len(case.traits) > MAX_TRAITS:
        grid.add_row("", Text(f"and {words.counted(len(case.traits) - MAX_TRAITS, 'more trait')}", style="dim"))
    if campaign.not_examined:
        grid.add_row("not examined", Text(words.listed(campaign.not_examined, most=6)))
    if case.lineage is not None:
        grid.add_row("lineage", _say(ancestry(case.lineage), cells=400))
        if case.lineage.review is not None:
            grid.add_row("review", Text(words.plain(reviewed(case.lineage.review)), style="bold"))
    colour = "dim" if is_dismissed(case.lineage) else "cyan"
    title = Text.assemble(
        (f" Campaign {case.number} ", "bold"), (f"{words.plain(campaign.campaign_id, cells=16)} ", "dim")
    )
    return Panel(grid, title=title, title_align="left", box=ROUNDED, border_style=colour, padding=(0, 1))


def _bits(value: float, bar: float) -> Text:
    reached = Text.assemble((f"{words.bits(value)} bits", "bold"), f", bar {words.decimal(bar)}")
    if value > 0:
        reached.append(f"; ordinary traffic gets there {words.once_in(value)}", style="dim")
    return reached


def _innocent(case: Case, bars: Bars) -> Text:
    campaign = case.campaign
    return Text.assemble(
        (f"{words.bits(campaign.innocent_margin_bits)} bits", "bold"),
        f", bar {words.decimal(bars.innocent_margin_bits_min)}; beyond the best innocent explanation, ",
        _say(words.named(campaign.best_innocent, {}), cells=40),
    )


def _trait(trait: Trait) -> Text:
    return Text.assemble(
        (words.counted(trait.n_inside, "account"), "bold"),
        f", {words.decimal(trait.expected)} expected, {words.count(trait.n_outside)} outside: ",
        _say(words.named(trait.kind, words.KINDS), cells=30),
        " ",
        (words.plain(trait.trait_key, cells=17), "cyan"),
    )


def _leads(findings: Findings) -> RenderableType:
    leads = leads_of(findings)
    table = Table(box=HORIZONTALS, show_edge=False, pad_edge=False, header_style="dim")
    table.add_column("lead", no_wrap=True)
    table.add_column("accounts", justify="right")
    table.add_column("operator", justify="right")
    table.add_column("harvest", justify="right")
    table.add_column("why it is not reported", overflow="fold")
    for lead in leads[:MAX_LEADS]:
        table.add_row(
            _say(lead["campaign_id"], cells=17),
            words.count(lead["n_accounts"]),
            words.bits(lead["operator_bits"]),
            words.bits(lead["harvest_bits"]),
            _why(lead),
        )
    said = Text.assemble(("Leads", "bold"), ", nearest to a campaign first; operator and harvest are in bits")
    parts: list[RenderableType] = [said, Padding(table, (0, 0, 0, 2))]
    if len(leads) > MAX_LEADS:
        parts.append(_aside(f"{words.count(len(leads) - MAX_LEADS)} more in leads.parquet."))
    return Group(*parts)


def _why(lead: Mapping[str, Any]) -> Text:
    verdict = words.named(lead["verdict"], words.VERDICTS).removeprefix("lead: ")
    return Text.assemble(
        _say(verdict, cells=60), "; ", _say(words.missed(lead["failed_bar"], lead["shortfall"]), cells=80)
    )


def _scanned(scan: Provenance) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True, min_width=13)
    grid.add_column(overflow="fold")
    absent = words.listed(scan.absent, most=24) if scan.absent else "nothing: every known channel was present"
    grid.add_row("Not examined", Text(absent))
    rejects = [f"{words.count(n)} {words.named(reason, {})}" for reason, n in scan.rejects[:MAX_REJECTS]]
    if len(scan.rejects) > MAX_REJECTS:
        rejects.append(f"{words.counted(len(scan.rejects) - MAX_REJECTS, 'more reason')} in run.json")
    rows = f"{words.count(scan.rejected)} rejected" + (f" ({', '.join(rejects)})" if rejects else "")
    if scan.lapsed:
        grid.add_row(
            "Licences",
            Text(f"{words.counted(len(scan.lapsed), 'entry', 'entries')} of the allowlist not applied: see run.json"),
        )
    if scan.duplicates is not None:
        rows += f", {words.counted(scan.duplicates, 'duplicate')} counted once"
    grid.add_row("Rows", Text(rows))
    return grid


def _remembered(findings: Findings) -> list[RenderableType]:
    memory = memory_of(findings.run)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True, min_width=13)
    grid.add_column(overflow="fold")
    if memory.gone:
        shown = "; ".join(gone_in_words(one) for one in memory.gone[:MAX_GONE])
        more = f"; {words.count(len(memory.gone) - MAX_GONE)} more in run.json" if len(memory.gone) > MAX_GONE else ""
        grid.add_row("Gone", _say(f"in the scan before, not in this one: {shown}{more}", cells=800))
    if memory.problem is not None:
        grid.add_row("Memory", _say(f"reviews and earlier scans were not looked at: {memory.problem}", cells=800))
    return [grid] if grid.row_count else []


def _aside(says: str) -> Text:
    return Text(says, style="dim")


def _say(value: object, *, cells: int) -> Text:
    return Text(words.plain(value, cells=cells))

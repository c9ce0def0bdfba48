"""How a report looks: the colours, the style of its charts, and the style sheet of its page."""

from __future__ import annotations

import re

LIGHT = {"bg": "#fbfaf7", "card": "#ffffff", "ink": "#1c2126", "soft": "#59626b", "rule": "#dfddd6", "zebra": "#f5f3ee",
         "link": "#1f5fbf", "quantize": "#d08a1d", "multiply": "#2f6fd0", "requantize": "#1f9385", "other": "#8b95a0",
         "float": "#c3c9cf", "bytes": "#6a5acd", "drop": "#c4453c", "good": "#1a7f4b", "bad": "#b23b32"}
DARK = {"bg": "#14171a", "card": "#1c2024", "ink": "#e7e9ea", "soft": "#a3adb6", "rule": "#343a40", "zebra": "#21262b",
        "link": "#8ab6ff", "quantize": "#e5a94a", "multiply": "#6ea2f2", "requantize": "#4bc0b0", "other": "#7f8993",
        "float": "#4b535b", "bytes": "#a398f0", "drop": "#ef7d73", "good": "#5fd08f", "bad": "#ff8d83"}
FONT = 'system-ui,-apple-system,"Segoe UI",Roboto,sans-serif'
CHARTS = """
svg text{font-size:11px;fill:var(--ink)}
svg .end{text-anchor:end}svg .middle{text-anchor:middle}
svg .quantize{fill:var(--quantize)}svg .multiply{fill:var(--multiply)}svg .requantize{fill:var(--requantize)}
svg .other{fill:var(--other)}svg .float{fill:var(--float)}
svg .bytes,svg .columns{fill:var(--bytes)}svg .drop{fill:var(--drop)}
svg .train{fill:var(--other);stroke:var(--other)}svg .validation{fill:var(--multiply);stroke:var(--multiply)}
svg .line{fill:none;stroke-width:1.5}
svg .axis{stroke:var(--soft);stroke-width:1;fill:none}svg .dashed{stroke-dasharray:3 3}
svg .rule{stroke:var(--rule);stroke-width:1;fill:none}
"""


def _variables(colors: dict[str, str]) -> str:
    return ";".join(f"--{name}:{color}" for name, color in colors.items())


def picture_style() -> str:
    """The style of a picture by itself: light, and without variables, which few programs but browsers know."""
    rules = re.sub(r"var\(--(\w+)\)", lambda found: LIGHT[found[1]], CHARTS)
    return f"svg{{font-family:{FONT}}}{rules}svg .heading{{font-size:13px;font-weight:600}}" \
           "svg .title{font-size:16px;font-weight:600}"


# light and dark by the reader's setting, on a phone cards for table rows
CSS = f"""
:root{{color-scheme:light dark;{_variables(LIGHT)}}}
@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}
body{{font:15px/1.5 {FONT}}}
{CHARTS}""" + """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);overflow-wrap:anywhere}
header,main,footer{max-width:1240px;margin:0 auto;padding:0 20px}
header{padding-top:28px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px}
h2{font-size:18px;margin:36px 0 10px}
p{margin:0 0 10px}
.soft,footer{color:var(--soft)}
a{color:var(--link)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px;border-radius:4px}
.skip{position:absolute;left:-9999px}
.skip:focus{left:12px;top:12px;background:var(--card);padding:8px 12px;z-index:2}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;padding:0;margin:14px 0 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:18px 0 0}
.tiles div,.chart,.box{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:12px 14px}
.tiles dt{color:var(--soft);font-size:13px}
.tiles dd{margin:0;font-size:22px;font-weight:600;font-variant-numeric:tabular-nums;line-height:1.3}
.tiles dd small{display:block;font-size:12.5px;font-weight:400;color:var(--soft)}
.scroll{overflow-x:auto;margin-top:14px;border:1px solid var(--rule);border-radius:10px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:5px 7px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--rule)}
thead th{white-space:normal;overflow-wrap:normal;font-weight:600;vertical-align:bottom;color:var(--soft)}
th[scope=row],thead th:first-child,td.text,thead th.text{text-align:left}
th[scope=row]{font-weight:600;white-space:normal;min-width:110px}
th small{font-weight:400;color:var(--soft);margin-left:6px;display:inline-block}
tbody tr.layer:hover{background:var(--zebra)}
tr.noted>*{border-bottom:0}
tr.note td{white-space:normal;text-align:left;color:var(--soft);padding:0 9px 7px;font-size:12.5px}
tr.note ul{margin:0;padding-left:16px}
tr.total>*{font-weight:700;border-bottom:0;background:var(--zebra)}
.gain{color:var(--good);font-weight:600}.loss{color:var(--bad);font-weight:600}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(340px,100%),1fr));gap:14px;align-items:start}
.chart h3{font-size:14px;margin:0 0 8px}
.chart svg{display:block;width:100%;height:auto}
.key{display:flex;flex-wrap:wrap;gap:2px 14px;list-style:none;padding:0;margin:0 0 10px;font-size:12.5px;color:var(--soft)}
.key i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:5px;vertical-align:-1px}
details{background:var(--card);border:1px solid var(--rule);border-radius:10px;margin:0 0 8px}
summary{cursor:pointer;padding:9px 14px;font-weight:600}
summary span{font-weight:400;color:var(--soft)}
details>div{padding:2px 14px 12px}
.after{margin-top:14px}
.caption{font-size:12.5px;color:var(--soft);margin:0 0 6px}
footer{padding:36px 20px 40px;font-size:13px}
@media (max-width:760px){
header,main,footer{padding-left:14px;padding-right:14px}
.tiles{grid-template-columns:1fr 1fr}
.scroll{border:0;background:none;overflow:visible}
table,tbody{display:block}
thead{position:absolute;left:-9999px}
tbody tr{display:grid;grid-template-columns:1fr 1fr;gap:2px 16px;background:var(--card);border:1px solid var(--rule);
border-radius:10px;padding:10px 12px;margin:0 0 10px}
th,td,thead th{border:0;padding:1px 0;white-space:normal}
th[scope=row]{grid-column:1/-1;font-size:15px}
td[data-label]{display:flex;justify-content:space-between;gap:8px;text-align:right!important}
td[data-label]:empty{display:none}
td[data-label]::before{content:attr(data-label);color:var(--soft);font-weight:400;text-align:left;flex:none}
tr.noted{border-bottom:0;border-radius:10px 10px 0 0;margin-bottom:0}
tr.note{border-top:0;border-radius:0 0 10px 10px;display:block}
tr.note td{padding:0}
tr.total>*{background:none}
}
@media print{.skip,nav{display:none}.chart,details{break-inside:avoid}}
"""

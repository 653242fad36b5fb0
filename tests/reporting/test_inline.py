"""The parts of a self-contained page: what is allowed to run, and data that stay data."""

import base64
import hashlib
import json
import sys

import pytest

from topofix.errors import InvalidOption
from topofix.reporting.inline import embedded_json, plotly_script, policy, script, styles


def test_only_the_given_programs_may_run_and_nothing_is_fetched():
    rules = dict(rule.split(" ", 1) for rule in policy("one()", "two()").split("; "))
    digests = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in (b"one()", b"two()")]
    assert rules.pop("script-src") == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert rules == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "]]>", "\u2028", "é心", '"', "\\u003c"])
def test_data_end_no_script_and_come_back_as_they_were(text):
    written = embedded_json({"a": [text]})
    assert "<" not in written
    assert written.isascii()
    assert json.loads(written) == {"a": [text]}


def test_plotly_can_be_inlined():
    pytest.importorskip("plotly")
    program = plotly_script()
    assert "</script" not in program.lower()
    assert "<!--" not in program
    assert "\r" not in program


def test_without_plotly_it_is_said_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(InvalidOption, match=r"^--report: .* pip install 'topofix\[report\]' installs it$"):
        plotly_script()


def test_styles_and_programs_are_read_from_the_package():
    assert styles("base.css", "cohort.css") == styles("base.css") + styles("cohort.css")
    assert "</" not in styles("base.css", "cohort.css")
    assert "</" not in script("cohort.js")

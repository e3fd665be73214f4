"""The HTML report on a run: one file that opens offline.

`reading` finds the facts, `story` and `advice` say how the run stands and what to do, `curves`
chooses what is drawn and `svg` draws it, `page` puts it together.
"""

from rlhf_trainer.report.page import write_report

__all__ = ["write_report"]

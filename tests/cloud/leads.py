"""What other leads would have done: how many votes an answer must be ahead by before it is reused.

    python -m tests.cloud.leads FOLDER [--runs 4] [--leads 1/1/0 3/1/0.05 …]

The runs of the policy comparison, with a cloud that is right nine times of ten and each
`reuse_good_lead`/`reuse_defect_lead`/`recheck_share` in turn; one line for each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from inspector.cloud.simulation import ComparedLooks
from inspector.cloud_settings import StationCloudConfig
from pipelines.cloud_simulate import compare
from tests.cloud.policies import PRICED, RATES, REVIEW, RULES, SAVING, Tally, draw_run, record_data_set

LEADS = ("1/1/0", "1/1/0.05", "2/2/0.05", "3/1/0.05", "3/2/0.05", "3/3/0.05")


def read_leads(text: str) -> StationCloudConfig:
    """The rules of the comparison with leads written as good/defect/recheck."""
    good, defect, recheck = text.split("/")
    changed = {"reuse_good_lead": int(good), "reuse_defect_lead": int(defect), "recheck_share": float(recheck)}
    return StationCloudConfig.model_validate({**RULES.model_dump(), **changed})


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of data sets")
    parser.add_argument("--runs", type=int, default=4, help="runs with seeds of their own for each set and rate")
    parser.add_argument("--leads", nargs="+", default=LEADS)
    options = parser.parse_args()
    rules = {text: read_leads(text) for text in options.leads}
    tallies = {text: Tally() for text in options.leads}
    folders = sorted(path for path in options.data.iterdir() if (path / "train" / "good").is_dir())
    with tempfile.TemporaryDirectory(prefix="leads-") as work:
        for folder in folders:
            good, bad = record_data_set(folder, Path(work) / folder.name)
            compared = ComparedLooks()
            for rate in RATES:
                for seed in range(options.runs):
                    run = draw_run(good, bad, rate, seed)
                    for text, tally in tallies.items():
                        for _, share, outcomes in compare(run, rules[text], PRICED, "EUR", compared).outcomes:
                            if share < 1:
                                tally.add(outcomes)
            say(f"{folder.name} done")
    say("| leads | runs that miss more | cost above half | missed, REVIEW alone → reuse | stopped wrongly |")
    for text, tally in tallies.items():
        missed = f"{tally.missed[REVIEW]} → {tally.missed[SAVING]}"
        stopped = f"{tally.overkill[REVIEW]} → {tally.overkill[SAVING]}"
        say(f"| {text} | {tally.more_missed} of {tally.runs} | {tally.dearer} | {missed} | {stopped} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

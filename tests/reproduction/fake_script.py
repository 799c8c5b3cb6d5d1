"""Stands in for every script of the project: writes at once, without torch, what a finished stage leaves behind."""

import itertools
import json
import os
import pathlib
import shutil
import sys

script, arguments = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
given = dict(itertools.pairwise(arguments))
pictures = pathlib.Path(os.environ["FAKE_PICTURES"])  # VIS.png and NIR.png


def write(path: str, value: object) -> None:
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = value if isinstance(value, list) else [value]
    target.write_text("".join(json.dumps(line) + "\n" for line in lines))


def draw(folder: str, separator: str) -> None:
    """Two people with two pairs each."""
    for spectrum in ("VIS", "NIR"):
        for person in (0, 1):
            for sample in (0, 1):
                target = pathlib.Path(folder, spectrum, f"{person}{separator}{sample}.png")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(pictures / f"{spectrum}.png", target)


def leak(samples: int) -> dict:
    rate = samples / 4
    return {"threshold": 0.6, "samples": samples, "rate": rate, "people": 1, "strangers": 0.5, "heldout": 0.25}


def people() -> dict:
    names = ("mated_mean", "mated_sd", "nonmated_mean", "nonmated_sd", "eer", "fdr", "d_prime", "diversity_cosine")
    return {**dict.fromkeys(names, 0.25), "diversity_pixels": 12.0}


if script == "dataset_tool.py" and arguments[0] == "example":
    draw(given["--dest"], "_")
    write(f"{given['--dest']}/dataset.json", {"first": given["--first-identity"]})
elif script == "dataset_tool.py":
    write(given["--out"], "features")
elif script == "filter.py" and arguments[0] == "calibrate":
    write(given["--out"], {"warnings": ["of the thresholds"]})
    write("thresholds.png", "a plot")
elif script == "filter.py":
    filtered = given["--data"] == "filtered"
    audit = {"samples": 4, "people": 2, "leakage": {"1e-3": leak(1), "unique": leak(0 if filtered else 3)}}
    audit |= {"highest_real_similarity": 0.5, "duplicates": {}}
    audit |= {"membership": {"auc": 0.5, "low": 0.4, "high": 0.6, "outsiders": 2}, "notices": ["of an audit"]}
    audit |= {"inputs": {"real_data": {"people": 2}}}
    audit |= {"synthetic": people(), "real": people(), "identities": [{"diversity_cosine": 0.2 + 0.1 * filtered}] * 2}
    write(f"{given['--outdir']}/audit.json", audit)
elif script == "train.py":
    assert given["--resume"] == "latest"
    write(f"{given['--outdir']}/00000-real/best-network.safetensors", "network")
elif script == "generate_dataset.py":
    assert given["--gen-model"] == "generator/00000-real/best-network.safetensors"
    draw(given["--outdir"], "/")
    kept = {"verdict": "kept", "max_sim_real": 0.5, "sim_reference": 0.7, "max_sim_other": 0.3}
    write(f"{given['--outdir']}/manifest.jsonl", [kept, {**kept, "sim_reference": None}, {"verdict": "same"}])
    ids, pairs = int(given["--ids"]), int(given["--ids"]) * int(given["--samples-per-id"])
    counts = {"identities_kept": ids, "pairs_kept": pairs, "candidates": pairs + 1}
    summary = {**counts, "refused": {"same": 1, "tries": 0}}
    write(f"{given['--outdir']}/summary.json", {**summary, "threshold_unique": 0.6, "threshold_same": 0.55})
elif script == "calc_metrics.py":
    lines = [
        {"metric": name, "spectrum": spectrum, "value": 2.0}
        for name in given["--metrics"].split(",")
        for spectrum in ("vis", "nir")
    ]
    write(given["--out"], lines)
elif script == "train_recognition.py":
    write(f"{given['--outdir']}/recognition.safetensors", "model")
    accuracy = 0.9 - 0.01 * int(given.get("--seed", 0)) - 0.2 * (given["--data"] == "unfiltered")
    test = {"metric": "accuracy", "benchmark": "pairs-vis-vis", "spectrum": "vis-vis", "value": accuracy}
    write(f"{given['--outdir']}/metrics.jsonl", [test, {"metric": "eer", "spectrum": "vis", "value": 0.1}])

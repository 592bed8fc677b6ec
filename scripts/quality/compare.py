"""Compares trained models with those of scikit-learn and LightGBM on the same rows and columns.

Each set is divided by time: models are trained on the first rows and measured on all later ones. AUC is computed per month or quarter and averaged
over the rows, since the rate of the target changes with time. Identifiers, times and columns that are known only with the label are no features.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, mean_squared_error, roc_auc_score

SETS = {
    "flights_2013": dict(target="late", ignore=["flight_id", "flight_no", "arr_delay", "timestamp"], until="2013-05-01", period="M"),
    "chicago_taxi_tips": dict(target="big_tip", ignore=["trip_id", "tips", "timestamp"], until="2014-04-01", period="Q"),
    "bike_hourly": dict(target="cnt", ignore=["casual", "registered", "timestamp"], until="2011-09-01"),
    "digits_8x8": dict(target="label", ignore=[], rows=1200, image="8x8"),
}
# Categories with more values than this are left out of HistGradientBoosting, which does not take them.
MAX_CATEGORIES = 250


class Set:
    """A data set with its division into training rows and later rows."""

    def __init__(self, path, target, ignore, until=None, rows=None, period=None, image=None):
        self.path, self.target, self.ignore, self.period, self.image = path, target, ignore, period, image
        self.data = pd.read_parquet(path)
        self.time = "timestamp" if until else "-"
        self.rows = rows or int((self.data["timestamp"] < pd.Timestamp(until, tz=self.data["timestamp"].dt.tz)).sum())
        self.labels = self.data[target].to_numpy()

    def features(self):
        features = self.data.drop(columns=[*self.ignore, self.target])
        texts = [name for name in features if not pd.api.types.is_numeric_dtype(features[name])]
        return features.astype({name: "category" for name in texts})

    def is_regression(self):
        return self.target == "cnt"

    def metrics(self, scores):
        labels = self.labels[self.rows :]
        if self.is_regression():
            return {"RMSE": mean_squared_error(labels, scores) ** 0.5, "MAE": mean_absolute_error(labels, scores)}
        if scores.shape[1] > 2:
            scores = scores / scores.sum(axis=1, keepdims=True)
            return {"accuracy": accuracy_score(labels, scores.argmax(axis=1)), "log loss": log_loss(labels, scores)}
        positive = scores[:, -1]
        periods = self.data["timestamp"].iloc[self.rows :].dt.tz_localize(None).dt.to_period(self.period).to_numpy()
        parts = [periods == period for period in pd.unique(periods)]
        parts = [part for part in parts if len(np.unique(labels[part])) == 2]
        aucs = [roc_auc_score(labels[part], positive[part]) for part in parts]
        return {"AUC": np.average(aucs, weights=[part.sum() for part in parts]), "log loss": log_loss(labels, positive)}

    def peer(self, classifier, regressor, max_categories=None):
        features = self.features()
        if max_categories:
            is_large = lambda name: features[name].dtype == "category" and features[name].nunique() > max_categories
            features = features.drop(columns=[name for name in features if is_large(name)])
        model = regressor() if self.is_regression() else classifier()
        started = time.perf_counter()
        model.fit(features[: self.rows], self.labels[: self.rows])
        seconds = time.perf_counter() - started
        later = features[self.rows :]
        started = time.perf_counter()
        scores = model.predict(later) if self.is_regression() else model.predict_proba(later)
        row = (time.perf_counter() - started) / len(later) * 1e6
        return self.metrics(scores), {"seconds": seconds, "microseconds_per_row": row}

    def own(self, program, recipe, budget):
        with tempfile.TemporaryDirectory() as folder:
            given, scores = Path(folder, "recipe.json"), Path(folder, "scores.csv")
            given.write_text(json.dumps({"target": self.target, "ignore": self.ignore, **recipe}))
            command = [program, self.path, str(self.rows), given, scores, self.time, str(budget)]
            printed = subprocess.run(command, check=True, capture_output=True, text=True)
            values = pd.read_csv(scores, header=None).to_numpy()
            return self.metrics(values[:, 0] if self.is_regression() else values), json.loads(printed.stdout)


def hist_gradient_boosting(data):
    options = dict(random_state=0, categorical_features="from_dtype")
    return data.peer(
        lambda: HistGradientBoostingClassifier(**options), lambda: HistGradientBoostingRegressor(**options), MAX_CATEGORIES
    )


def light_gbm(data):
    options = dict(random_state=0, verbose=-1, deterministic=True)
    return data.peer(lambda: LGBMClassifier(**options), lambda: LGBMRegressor(**options))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", help="the example `quality` of rekindle-training")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--budget", type=int, default=600, help="seconds of the search; 0 leaves it out")
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    args = parser.parse_args()
    models = {
        "HistGradientBoosting": hist_gradient_boosting,
        "LightGBM": light_gbm,
        "linear": lambda data: data.own(args.program, {"model": {"kind": "linear"}}, 0),
        "mlp": lambda data: data.own(args.program, {"model": {"kind": "mlp"}}, 0),
        "tabm (default)": lambda data: data.own(args.program, {}, 0),
    }
    if args.budget:
        models[f"--auto, {args.budget} s"] = lambda data: data.own(args.program, {}, args.budget)
    for name in args.sets:
        path = args.data / f"{name}.parquet"
        if not path.exists():
            print(f"{name}: skipped, {path.name} is absent", flush=True)
            continue
        data, is_first = Set(path, **SETS[name]), True
        kinds = dict(models)
        if data.image:
            cnn = {"model": {"kind": "cnn", "image": data.image}}
            kinds["cnn"] = lambda data: data.own(args.program, cnn, 0)
        for model, train in kinds.items():
            metrics, figures = train(data)
            if is_first:
                print(f"\n{name}: trained on {data.rows} rows, measured on {len(data.data) - data.rows} later ones\n")
                print(f"| model | {' | '.join(metrics)} | training, s | prediction, us/row | trials |\n|---|{'---|' * (len(metrics) + 3)}")
                is_first = False
            values = " | ".join(f"{value:.4f}" if value < 10 else f"{value:.1f}" for value in metrics.values())
            seconds, row = figures["seconds"], figures["microseconds_per_row"]
            print(f"| {model} | {values} | {seconds:.1f} | {row:.1f} | {figures.get('trials', '')} |", flush=True)


if __name__ == "__main__":
    main()

//! The memory of a training is at most its estimate. One test, because the peak is that of the process.

use std::{cell::Cell, sync::Arc};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use bytes::Bytes;
use rekindle_dataset::Table;
use rekindle_domain::{
    ColumnKind, Digest, Recipe,
    recipe::{MlpRecipe, ModelRecipe, Optimizer},
};
use rekindle_training::{
    Checkpoint, Epoch, Error, Origin, RowsSize, Supervisor, TrainInput, TrainingMemory, train_under,
};

/// What the test, its table and the libraries take besides.
const SLACK: u64 = 64 << 20;

/// A figure of the status of this process in bytes.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a figure");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().expect("in kB") * 1024
}

fn table(rows: i64) -> Table {
    let columns: [(&str, ArrayRef); 2] = [
        ("x", Arc::new((0..rows).map(|row| Some((row * 37 % 100) as f64)).collect::<Float64Array>())),
        ("late", Arc::new((0..rows).map(|row| Some(i64::from(row * 37 % 100 >= 50))).collect::<Int64Array>())),
    ];
    Table::from_batch(&RecordBatch::try_from_iter(columns).expect("columns of one length")).expect("a table")
}

/// Stops a training in the middle of the second epoch: 510 rows make eight steps of one. It has the latest checkpoint.
#[derive(Default)]
struct Counted {
    steps: Cell<u32>,
    epochs: Cell<u32>,
    checkpoint: Cell<Option<Bytes>>,
}

impl Supervisor for Counted {
    fn should_stop(&self) -> bool {
        self.steps.set(self.steps.get() + 1);
        self.steps.get() > 12
    }

    fn epoch(&self, _: &Epoch) {
        self.epochs.set(self.epochs.get() + 1);
    }

    fn wants_checkpoint(&self) -> bool {
        true
    }

    fn save(&self, checkpoint: Checkpoint) {
        self.checkpoint.set(Some(checkpoint.into_bytes("this build").expect("serializable")));
    }
}

#[test]
fn a_training_takes_its_estimate_at_most_until_it_is_stopped() {
    let table = table(600);
    let optimizer = Optimizer { max_epochs: 1000, patience: 1000, batch_size: 64, ..Optimizer::default() };
    let model = ModelRecipe::Mlp(MlpRecipe { hidden: vec![2048; 4], dropout: 0.2, optimizer });
    let recipe = Recipe { model, ..Recipe::for_target("late") };
    let size = RowsSize {
        rows: 600,
        columns: vec![(ColumnKind::Numeric, None); 2],
        read: vec![ColumnKind::Numeric; 2],
        outputs: 1,
    };
    let estimate = TrainingMemory::estimate(&recipe, &size);
    let origin = Origin { run_id: String::new(), dataset_digests: vec![Digest::of(b"")], code_revision: String::new() };
    let input = TrainInput { table: &table, time_column: None, recipe: &recipe };
    let before = status("VmRSS");
    let counted = Counted::default();
    let stopped = train_under(&input, &origin, None, &counted).expect_err("stopped");
    assert!(matches!(stopped, Error::Stopped { epoch: 1 }), "{stopped}");
    assert_eq!((counted.epochs.get(), counted.steps.get()), (1, 13), "no step follows");
    let grown = status("VmHWM") - before;
    println!("estimate {estimate}; the peak grew by {} MiB", grown >> 20);
    assert!(grown <= estimate.total() + SLACK, "the peak grew by {} MiB", grown >> 20);
    assert!(grown >= estimate.network / 2, "the estimate is far too high: the peak grew by {} MiB", grown >> 20);
}

//! Sessions of ONNX Runtime: from rows to scores.

use std::{
    fmt::Display,
    num::NonZero,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::available_parallelism,
};

use arrow::array::RecordBatch;
use ort::{
    session::{OutputSelector, RunOptions, Session, builder::GraphOptimizationLevel},
    value::DynValue,
};
use rekindle_domain::Task;

use super::{Onnx, Scores, feed::Feed, file::File, library};
use crate::{
    Bundle, Error, Manifest,
    engine::Outputs,
    manifest::{MANIFEST, MODEL},
    prediction::raw_width,
};

/// Bytes that the sessions of a model take together at most, unless one takes more.
const POOL_BYTES: u64 = 256 << 20;

/// Rows that one run takes at most: its memory grows with them.
const BATCH: usize = 8192;

/// A model with a few sessions: one computes one batch at a time, on the thread that asks.
#[derive(Debug)]
pub(crate) struct Sessions {
    pool: Vec<Mutex<Session>>,
    next: AtomicUsize,
    feed: Feed,
    onnx: Onnx,
    task: Task,
    /// Scores per row of the answer.
    width: usize,
}

impl Sessions {
    /// Checks the file, and that the signature fits it, and opens as many sessions as there are processors, if they are small.
    pub(crate) fn load(bundle: &Bundle) -> Result<Self, Error> {
        let (manifest, model) = (&bundle.manifest, bundle.blob(MODEL)?);
        let onnx = manifest.onnx.as_deref().cloned().ok_or_else(|| Error::invalid(MANIFEST, "onnx is missing"))?;
        let file = File::parse(model)?;
        let feed = Feed::new(manifest, &onnx, &file)?;
        check_output(manifest, &onnx, &file)?;
        let environment = library::environment()?;
        let open = |_| {
            let mut builder = Session::builder(&environment)
                .map_err(refused)?
                .with_intra_threads(1)
                .map_err(refused)?
                .with_inter_threads(1)
                .map_err(refused)?
                .with_deterministic_compute(true)
                .map_err(refused)?
                .with_optimization_level(GraphOptimizationLevel::All)
                .map_err(refused)?;
            builder.commit_from_memory(model).map(Mutex::new).map_err(refused)
        };
        let pool = (0..count(&file)).map(open).collect::<Result<Vec<_>, Error>>()?;
        let width = raw_width(manifest.task, manifest.classes.as_ref().map_or(0, Vec::len));
        Ok(Self { pool, next: AtomicUsize::new(0), feed, onnx, task: manifest.task, width })
    }

    /// The scores of every row, at most [`BATCH`] at a time.
    pub(crate) fn run(&self, rows: &RecordBatch) -> Result<Outputs, Error> {
        let count = rows.num_rows();
        let scores = match count {
            0 => Vec::new(),
            1..=BATCH => self.run_batch(rows)?,
            _ => {
                let starts = (0..count).step_by(BATCH);
                let parts = starts.map(|start| self.run_batch(&rows.slice(start, BATCH.min(count - start))));
                parts.collect::<Result<Vec<_>, _>>()?.concat()
            }
        };
        Ok(match self.onnx.scores {
            Scores::Probabilities => Outputs::Probabilities(scores),
            Scores::Logits | Scores::Numbers => Outputs::Raw(scores),
        })
    }

    fn run_batch(&self, rows: &RecordBatch) -> Result<Vec<f32>, Error> {
        let inputs = self.feed.values(rows)?;
        let outputs = OutputSelector::no_default().with(&*self.onnx.output);
        let options = RunOptions::new().map_err(failed)?.with_outputs(outputs);
        let mut session = self.free();
        let answer = session.run_with_options(inputs, &options).map_err(failed)?;
        let scores = answer.get(&self.onnx.output).ok_or_else(|| failed("it has not computed its output"))?;
        let scores = floats(scores)?;
        drop(answer);
        drop(session);
        let width = scores.len() / rows.num_rows();
        let fits = width == self.width || (self.task == Task::Binary && width == 2);
        if !fits || width * rows.num_rows() != scores.len() {
            let (got, rows) = (scores.len(), rows.num_rows());
            return Err(failed(format!("{got} scores for {rows} rows, expected {} per row", self.width)));
        }
        Ok(self.of_task(scores, width))
    }

    /// The scores that the task has. Of two classes, that is the score of the positive class.
    fn of_task(&self, scores: Vec<f32>, width: usize) -> Vec<f32> {
        if width == self.width {
            return scores;
        }
        let pairs = scores.chunks_exact(2);
        match self.onnx.scores {
            // The softmax of two logits is the sigmoid of their difference.
            Scores::Logits => pairs.map(|row| row[1] - row[0]).collect(),
            Scores::Probabilities | Scores::Numbers => pairs.map(|row| row[1]).collect(),
        }
    }

    /// A session that no other thread uses, or else the one whose turn it is.
    fn free(&self) -> MutexGuard<'_, Session> {
        let first = self.next.fetch_add(1, Relaxed);
        let turns = (0..self.pool.len()).map(|turn| &self.pool[(first.wrapping_add(turn)) % self.pool.len()]);
        let free = turns.clone().find_map(|session| session.try_lock().ok());
        // A run that panicked has left its session as it was: its state is its weights.
        free.unwrap_or_else(|| self.pool[first % self.pool.len()].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// About what the sessions of a file take of memory, in bytes.
pub(crate) fn loaded_bytes(file: &File) -> u64 {
    file.session_bytes().saturating_mul(count(file))
}

/// The sessions of a file: as many as there are processors, if they are small.
fn count(file: &File) -> u64 {
    let processors = available_parallelism().map_or(1, NonZero::get) as u64;
    (POOL_BYTES / file.session_bytes().max(1)).clamp(1, processors)
}

/// The elements of a tensor of floats or doubles.
fn floats(tensor: &DynValue) -> Result<Vec<f32>, Error> {
    if let Ok((_, floats)) = tensor.try_extract_tensor::<f32>() {
        return Ok(floats.to_vec());
    }
    let (_, doubles) = tensor.try_extract_tensor::<f64>().map_err(failed)?;
    Ok(doubles.iter().map(|&double| double as f32).collect())
}

/// Checks that the scores are those of the task.
fn check_output(manifest: &Manifest, onnx: &Onnx, file: &File) -> Result<(), Error> {
    let is_regression = manifest.task == Task::Regression;
    if (onnx.scores == Scores::Numbers) != is_regression {
        let problem = format!("the scores of a {:?} model are not {}", manifest.task, onnx.scores.name());
        return Err(Error::invalid(MANIFEST, problem));
    }
    let output = file.outputs.iter().find(|output| output.name == onnx.output);
    let output = output.ok_or_else(|| Error::invalid(MODEL, format!("it has no output {:?}", onnx.output)))?;
    if output.element.is_float() {
        return Ok(());
    }
    Err(Error::invalid(MODEL, format!("its output {:?} is {output}, expected floats", onnx.output)))
}

/// ONNX Runtime does not load the file.
fn refused(error: impl Display) -> Error {
    Error::invalid(MODEL, format!("ONNX Runtime refuses it: {error}"))
}

/// ONNX Runtime failed on rows.
fn failed(error: impl Display) -> Error {
    Error::Run { problem: error.to_string() }
}

//! The model card: what a person should know before relying on a model, in Markdown.

use std::fmt::Write as _;

use rekindle_domain::{Architecture, Task};

use crate::Manifest;

/// What the card tells beside the manifest.
pub(crate) struct Facts {
    pub(crate) training_rows: usize,
    pub(crate) validation_rows: usize,
    pub(crate) epochs: u32,
    pub(crate) best_epoch: u32,
}

/// Writes the card. It holds nothing that is not in the manifest or in `facts`.
pub(crate) fn write(manifest: &Manifest, facts: &Facts) -> String {
    let mut card = String::new();
    // Writing into a String cannot fail.
    let _ = write_to(&mut card, manifest, facts);
    card
}

fn write_to(card: &mut String, manifest: &Manifest, facts: &Facts) -> std::fmt::Result {
    let Manifest { target, provenance, signature, .. } = manifest;
    writeln!(card, "# {target}\n")?;
    writeln!(card, "Predicts `{target}`: {}, by {}.\n", task(manifest), architecture(&manifest.architecture))?;
    writeln!(card, "## Data\n")?;
    writeln!(
        card,
        "A first network learnt from {} rows; the {} rows after them said when to stop (epoch {} of {} did best) and what \
         to expect. The network that serves then learnt from all of them for as long.",
        facts.training_rows, facts.validation_rows, facts.best_epoch, facts.epochs
    )?;
    for digest in &provenance.dataset_digests {
        writeln!(card, "- dataset `{digest}`")?;
    }
    writeln!(card, "\n## Quality on the validation rows\n\n| metric | value |\n|---|---|")?;
    for (name, value) in &manifest.metrics {
        writeln!(card, "| {name} | {value:.4} |")?;
    }
    writeln!(card, "\n## Inputs\n\n| name | type | kind | may be missing |\n|---|---|---|---|")?;
    for input in &signature.inputs {
        let missing = if input.nullable { "yes" } else { "no" };
        writeln!(card, "| `{}` | {} | {:?} | {missing} |", input.name, input.datatype, input.kind)?;
    }
    writeln!(card, "\n## Limits\n")?;
    writeln!(
        card,
        "Nothing is known about rows unlike those of training: numbers are cut to 8 standard deviations, and values of \
         a category with fewer than 5 training rows are answered as the average one."
    )?;
    writeln!(card, "\n## Origin\n")?;
    writeln!(
        card,
        "Run `{}`, code `{}`, seed {}, {}.",
        provenance.run_id, provenance.code_revision, provenance.seed, provenance.toolchain
    )
}

fn task(manifest: &Manifest) -> String {
    let classes = manifest.classes.as_deref().unwrap_or_default();
    match manifest.task {
        Task::Binary => format!("the probability of `{}`", classes.last().map_or("", String::as_str)),
        Task::Multiclass => format!("the probabilities of {} classes", classes.len()),
        Task::Regression => "a number".to_owned(),
    }
}

fn architecture(architecture: &Architecture) -> String {
    match architecture {
        Architecture::Linear => "a linear model".to_owned(),
        Architecture::Mlp { hidden, dropout } => {
            format!(
                "a perceptron with hidden layers of {hidden:?} and dropout {dropout}, with embeddings for categories"
            )
        }
    }
}

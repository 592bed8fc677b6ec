//! The ten commands of the README, read from the README.

use std::ops::Range;

use crate::{rows, world::World};

const README: &str = include_str!("../../../../README.md");
/// The columns of the data file.
const COLUMNS: &str = "trip_id,timestamp,fare,company,big_tip,tips";

/// The commands of the block that starts the platform, without the name of the program.
fn commands() -> Vec<Vec<String>> {
    let block = README.split("```").find(|block| block.contains("\nrekindle up ")).expect("a block of commands");
    let lines = block.lines().filter_map(|line| line.strip_prefix("rekindle "));
    lines.map(words).collect()
}

/// The words of a command line: quotes group, `#` begins a comment, `&` is dropped.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    for character in line.chars() {
        match character {
            '#' if !is_quoted => break,
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
            character => word.push(character),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty() && word != "&");
    words
}

/// A data file with the columns of the README.
fn csv(hours: Range<u64>) -> String {
    let text = rows::csv(hours, u64::MAX);
    let rows = text.lines().skip(1).map(|row| format!("{row},2.5\n"));
    std::iter::once(format!("{COLUMNS}\n")).chain(rows).collect()
}

#[tokio::test]
async fn the_ten_commands_of_the_readme_run_in_order() {
    let commands = commands();
    assert_eq!(commands.len(), 10, "{commands:?}");
    let command = |index: usize| commands[index].iter().map(String::as_str).collect::<Vec<_>>();
    let world = World::start(tempfile::tempdir().expect("a folder"), &command(0)).await;
    world.write("trips.csv", csv(0..36));
    world.write("new-trips.csv", csv(36..60));
    let printed: Vec<String> = (1..10).map(|index| world.text(&command(index))).collect();
    for (printed, fact) in printed.iter().zip([
        "ready",
        "trips version 1",
        "finished",
        "finished",
        "champion of tips",
        "tips",
        "28days",
        "outcomes:",
        "WORKFLOW",
    ]) {
        assert!(printed.contains(fact), "{fact}: {printed}");
    }
    assert!(printed[7].contains("1440"), "every row is answered: {}", printed[7]);
}

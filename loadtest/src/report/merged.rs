//! Sentences of several runs that say the same: they differ in their numbers only.
//!
//! The page and the table of a comparison show each such sentence once. The JSON has all of them, with their runs.

/// The sentences of `runs`, without those that repeat one of another run. Such a sentence says how many runs have it.
pub(crate) fn merged<'a>(runs: impl Iterator<Item = &'a [String]>) -> Vec<String> {
    struct Said<'a> {
        sentence: &'a str,
        kind: String,
        runs: usize,
        is_exact: bool,
    }
    let mut all: Vec<Said<'a>> = Vec::new();
    for sentences in runs {
        let mut before: Vec<String> = Vec::new();
        for sentence in sentences {
            let kind = without_numbers(sentence);
            let is_repeated = before.contains(&kind);
            before.push(kind.clone());
            match all.iter_mut().find(|said| said.kind == kind) {
                Some(said) => {
                    said.runs += usize::from(!is_repeated);
                    said.is_exact &= said.sentence == sentence;
                }
                None => all.push(Said {
                    sentence,
                    kind,
                    runs: 1,
                    is_exact: true,
                }),
            }
        }
    }
    let shown = all.iter().map(|said| match (said.runs, said.is_exact) {
        (1, _) => said.sentence.to_owned(),
        (runs, true) => format!("{} (in {runs} runs)", said.sentence),
        (runs, false) => format!("{} (similar in {runs} runs)", said.sentence),
    });
    shown.collect()
}

/// The sentence with a mark in place of each number.
fn without_numbers(sentence: &str) -> String {
    let mut out = String::new();
    let mut is_number = false;
    for c in sentence.chars() {
        let goes_on = is_number && matches!(c, '.' | ',');
        if c.is_ascii_digit() || goes_on {
            if !is_number {
                out.push('#');
            }
            is_number = true;
        } else {
            is_number = false;
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(runs: &[&[&str]]) -> Vec<String> {
        let runs: Vec<Vec<String>> = runs
            .iter()
            .map(|run| run.iter().map(|&sentence| sentence.to_owned()).collect())
            .collect();
        merged(runs.iter().map(Vec::as_slice))
    }

    #[test]
    fn sentences_that_differ_in_numbers_only_are_one() {
        assert_eq!(
            of(&[
                &["busy for 96.3%, waited for 1%"],
                &["busy for 97%, waited for 0.5%", "1,234 were lost"],
                &["busy for 100%, waited for 2%"],
            ]),
            [
                "busy for 96.3%, waited for 1% (similar in 3 runs)",
                "1,234 were lost"
            ]
        );
    }

    #[test]
    fn a_sentence_that_all_runs_have_is_shown_once() {
        assert_eq!(of(&[&["a"], &["a"]]), ["a (in 2 runs)"]);
        assert_eq!(of(&[&["a", "b"], &["c"]]), ["a", "b", "c"]);
    }

    #[test]
    fn two_sentences_of_one_run_are_one_run() {
        assert_eq!(of(&[&["1 was lost", "2 was lost"]]), ["1 was lost"]);
    }
}

//! Slices: parts of the rows, declared by a condition on the features.
//!
//! A condition is an SQL search condition over features and constants: `carrier = 'AA' AND distance > 1000`. Operators are `=`, `!=`, `<>`,
//! `<`, `<=`, `>`, `>=`, `IN`, `BETWEEN`, `IS NULL`, `IS NOT NULL`, `AND`, `OR` and `NOT`. The name of a feature alone declares one slice
//! for each of its values.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sqlparser::{
    ast::{BinaryOperator, Expr, InTarget, UnaryOperator, Value},
    dialect::GenericDialect,
    parser::Parser,
    tokenizer::Token,
};

/// A declaration of slices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Slice {
    /// One slice for each of the most frequent values of a feature.
    ByValue(String),
    /// The rows of which a condition is true.
    Where(Condition),
}

/// A condition on the features of a row. A comparison with a missing value is neither true nor false, as in SQL.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Every part is true.
    All(Vec<Condition>),
    /// At least one part is true.
    Any(Vec<Condition>),
    /// The part is false.
    Not(Box<Condition>),
    /// A feature passes a test.
    Is {
        /// The feature.
        feature: String,
        /// The test.
        test: Test,
    },
}

/// What a feature is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// It compares with a constant.
    Compare(Comparison, Constant),
    /// It equals one of several constants.
    In(Vec<Constant>),
    /// It has no value.
    Missing,
}

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// A constant of a condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// A finite number.
    Number(f64),
    /// A text, in single quotes.
    Text(String),
    /// `true` or `false`.
    Flag(bool),
}

impl Slice {
    /// The longest declaration, in bytes.
    pub const MOST_BYTES: usize = 1_000;
    /// The most comparisons of a declaration.
    pub const MOST_COMPARISONS: usize = 20;
}

impl Slice {
    /// The features that it is about.
    pub fn features(&self) -> Vec<&str> {
        fn add<'a>(condition: &'a Condition, features: &mut Vec<&'a str>) {
            match condition {
                Condition::All(parts) | Condition::Any(parts) => parts.iter().for_each(|part| add(part, features)),
                Condition::Not(part) => add(part, features),
                Condition::Is { feature, .. } => features.push(feature),
            }
        }
        match self {
            Self::ByValue(feature) => vec![feature],
            Self::Where(condition) => {
                let mut features = Vec::new();
                add(condition, &mut features);
                features
            }
        }
    }
}

impl FromStr for Slice {
    type Err = String;

    /// A declaration whose canonical form is as short, and reads back.
    fn from_str(text: &str) -> Result<Self, String> {
        let slice = parsed(text)?;
        let written = slice.to_string();
        if written.len() > Self::MOST_BYTES || parsed(&written).as_ref() != Ok(&slice) {
            return Err(format!("is too long or too deep: it is stored as {} bytes", written.len()));
        }
        Ok(slice)
    }
}

fn parsed(text: &str) -> Result<Slice, String> {
    if text.len() > Slice::MOST_BYTES {
        return Err(format!("has {} bytes: expected at most {}", text.len(), Slice::MOST_BYTES));
    }
    let expression = expression(text)?;
    if let Expr::Identifier(_) | Expr::CompoundIdentifier(_) = expression {
        return Ok(Slice::ByValue(feature(&expression)?));
    }
    let mut comparisons = 0;
    let condition = condition(&expression, &mut comparisons)?;
    if comparisons > Slice::MOST_COMPARISONS {
        let most = Slice::MOST_COMPARISONS;
        return Err(format!("has {comparisons} comparisons: expected at most {most}"));
    }
    Ok(Slice::Where(condition))
}

impl TryFrom<String> for Slice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Slice> for String {
    fn from(slice: Slice) -> Self {
        slice.to_string()
    }
}

/// The whole text as one expression. Its length and the parser bound how deep it is.
fn expression(text: &str) -> Result<Expr, String> {
    let unreadable = |error: String| {
        let error: String = error.chars().take(100).collect();
        format!(
            "cannot be parsed ({error}): expected a feature or a condition such as carrier = 'AA' AND distance > 1000"
        )
    };
    let parser = Parser::new(&GenericDialect {}).try_with_sql(text);
    let mut parser = parser.map_err(|error| unreadable(error.to_string()))?;
    let expression = parser.parse_expr().map_err(|error| unreadable(error.to_string()))?;
    match parser.next_token().token {
        Token::EOF => Ok(expression),
        token => Err(unreadable(format!("unexpected {token}"))),
    }
}

fn condition(expression: &Expr, comparisons: &mut usize) -> Result<Condition, String> {
    let negated = |condition: Condition, is_negated: bool| match is_negated {
        true => Condition::Not(Box::new(condition)),
        false => condition,
    };
    let mut is = |feature: String, test: Test| {
        *comparisons += 1;
        Condition::Is { feature, test }
    };
    match expression {
        Expr::Nested(inner) => condition(inner, comparisons),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => Ok(negated(condition(expr, comparisons)?, true)),
        Expr::BinaryOp { left, op: op @ (BinaryOperator::And | BinaryOperator::Or), right } => {
            let (left, right) = (condition(left, comparisons)?, condition(right, comparisons)?);
            Ok(match (op, left) {
                (BinaryOperator::And, Condition::All(parts)) => Condition::All([parts, vec![right]].concat()),
                (BinaryOperator::And, left) => Condition::All(vec![left, right]),
                (_, Condition::Any(parts)) => Condition::Any([parts, vec![right]].concat()),
                (_, left) => Condition::Any(vec![left, right]),
            })
        }
        Expr::BinaryOp { left, op, right } => {
            let (feature, comparison, constant) = (feature(left)?, op.to_string().parse()?, constant(right)?);
            let is_ordered = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
            if is_ordered && !matches!(constant, Constant::Number(_)) {
                return Err(format!("compares {feature} by {op} with no number: expected =, !=, IN or IS NULL"));
            }
            Ok(is(feature, Test::Compare(comparison, constant)))
        }
        Expr::Between { expr, negated: is_negated, low, high } => {
            let feature = feature(expr)?;
            let mut end = |comparison, end| match constant(end)? {
                number @ Constant::Number(_) => Ok(is(feature.clone(), Test::Compare(comparison, number))),
                _ => Err(format!("compares {feature} by BETWEEN with no number")),
            };
            let ends = vec![end(Comparison::GreaterOrEqual, low)?, end(Comparison::LessOrEqual, high)?];
            Ok(negated(Condition::All(ends), *is_negated))
        }
        Expr::In { expr, target: InTarget::List(list), negated: is_negated, global: false } => {
            let constants = list.iter().map(constant).collect::<Result<_, _>>()?;
            Ok(negated(is(feature(expr)?, Test::In(constants)), *is_negated))
        }
        Expr::IsNull(expr) => Ok(is(feature(expr)?, Test::Missing)),
        Expr::IsNotNull(expr) => Ok(negated(is(feature(expr)?, Test::Missing), true)),
        _ => Err("has a part that is no condition: expected a feature, an operator and a constant".to_owned()),
    }
}

fn feature(expression: &Expr) -> Result<String, String> {
    match expression {
        Expr::Identifier(name) => Ok(name.value.clone()),
        Expr::CompoundIdentifier(parts) => {
            Ok(parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join("."))
        }
        Expr::Nested(inner) => feature(inner),
        _ => Err("has no feature on the left of an operator: write names with other characters than letters, digits and _ in double \
                  quotes"
            .to_owned()),
    }
}

fn constant(expression: &Expr) -> Result<Constant, String> {
    let number = |digits: &str| {
        let number = digits.parse::<f64>().ok().filter(|number| number.is_finite());
        number.map(Constant::Number).ok_or_else(|| "has a number that is not finite".to_owned())
    };
    match expression {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => number(digits),
            Value::SingleQuotedString(text) => Ok(Constant::Text(text.clone())),
            Value::Boolean(flag) => Ok(Constant::Flag(*flag)),
            other => Err(format!("compares with {other}: expected a number, a text in single quotes, true or false")),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match constant(expr)? {
            Constant::Number(number) => Ok(Constant::Number(-number)),
            _ => Err("has the negative of no number".to_owned()),
        },
        _ => Err("compares with no constant: expected a number, a text in single quotes, true or false".to_owned()),
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByValue(feature) => f.write_str(&identifier(feature)),
            Self::Where(condition) => condition.fmt(f),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut joined = |parts: &[Self], by: &str| {
            for (at, part) in parts.iter().enumerate() {
                let by = if at == 0 { "" } else { by };
                match part {
                    Self::All(_) | Self::Any(_) => write!(f, "{by}({part})")?,
                    Self::Not(_) | Self::Is { .. } => write!(f, "{by}{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::All(parts) => joined(parts, " AND "),
            Self::Any(parts) => joined(parts, " OR "),
            Self::Not(part) => match &**part {
                Self::Is { feature, test: Test::Missing } => write!(f, "{} IS NOT NULL", identifier(feature)),
                part @ (Self::All(_) | Self::Any(_)) => write!(f, "NOT ({part})"),
                part => write!(f, "NOT {part}"),
            },
            Self::Is { feature, test } => {
                let feature = identifier(feature);
                match test {
                    Test::Compare(comparison, constant) => write!(f, "{feature} {} {constant}", comparison.operator()),
                    Test::In(constants) => {
                        let constants: Vec<String> = constants.iter().map(Constant::to_string).collect();
                        write!(f, "{feature} IN ({})", constants.join(", "))
                    }
                    Test::Missing => write!(f, "{feature} IS NULL"),
                }
            }
        }
    }
}

impl fmt::Display for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) if number.abs() >= 1e16 || (*number != 0.0 && number.abs() < 1e-5) => {
                write!(f, "{number:e}")
            }
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Self::Flag(flag) => flag.fmt(f),
        }
    }
}

impl FromStr for Comparison {
    type Err = String;

    /// By its operator in SQL.
    fn from_str(operator: &str) -> Result<Self, String> {
        Ok(match operator {
            "=" => Self::Equal,
            "<>" | "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            other => return Err(format!("has the operator {other}: expected =, !=, <, <=, >, >=, IN or BETWEEN")),
        })
    }
}

impl Comparison {
    /// The operator in a condition.
    pub const fn operator(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// Whether it is true of two values that compare so.
    pub const fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// A name as a condition has it: in double quotes unless it is a word that is read as a name wherever it stands.
fn identifier(name: &str) -> String {
    let is_word = name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
    let is_name = |text: String| match expression(&text).map(|expression| condition(&expression, &mut 0)) {
        Ok(Ok(Condition::Is { feature, .. })) => feature == name,
        _ => false,
    };
    let is_plain = is_word
        && matches!(expression(name), Ok(Expr::Identifier(parsed)) if parsed.value == name)
        && ["= 1", "IS NULL", "IN (1)"].iter().all(|test| is_name(format!("{name} {test}")));
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Slice, String> {
        text.parse()
    }

    #[test]
    fn conditions_are_written_in_one_form_that_reads_back() {
        for (text, expected) in [
            ("carrier", "carrier"),
            ("\"dep. delay\"", "\"dep. delay\""),
            ("distance>1000", "distance > 1000"),
            ("distance <> -1.50", "distance != -1.5"),
            ("carrier in ('AA', 'O''Hare')", "carrier IN ('AA', 'O''Hare')"),
            (
                "carrier = 'AA' and (distance > 10 or distance is null)",
                "carrier = 'AA' AND (distance > 10 OR distance IS NULL)",
            ),
            ("a = 1 AND b = 2 AND c = 3", "a = 1 AND b = 2 AND c = 3"),
            ("hour between 6 and 9", "hour >= 6 AND hour <= 9"),
            ("NOT hour BETWEEN 6 AND 9", "NOT (hour >= 6 AND hour <= 9)"),
            ("a is not null", "a IS NOT NULL"),
            ("member = TRUE", "member = true"),
            ("hour = 1 OR \"not\" = 1", "hour = 1 OR \"not\" = 1"),
            ("air.temp > 3", "\"air.temp\" > 3"),
            ("air.temp", "\"air.temp\""),
            ("NOT NOT a = 1e300", "NOT NOT a = 1e300"),
            ("a < 0.0000012", "a < 1.2e-6"),
        ] {
            let slice = parse(text).expect(text);
            assert_eq!(slice.to_string(), expected);
            assert_eq!(parse(expected), Ok(slice.clone()), "{expected}");
            let json = serde_json::to_string(&slice).expect("json");
            assert_eq!(serde_json::from_str::<Slice>(&json).expect("it reads"), slice);
        }
    }

    #[test]
    fn what_is_no_condition_is_refused_with_the_reason() {
        let deep = format!("{}a = 1{}", "(".repeat(200), ")".repeat(200));
        let many = vec!["a = 1"; 21].join(" OR ");
        for (text, reason) in [
            ("", "cannot be parsed"),
            ("a = ", "cannot be parsed"),
            ("a = 1 b", "unexpected b"),
            ("a > 'x'", "with no number"),
            ("a LIKE 'x%'", "no condition"),
            ("1 = a", "no feature"),
            ("a = b", "no constant"),
            ("a = 1e999", "not finite"),
            ("a = NULL", "compares with NULL"),
            ("count(*)", "no condition"),
            (deep.as_str(), "cannot be parsed"),
            (many.as_str(), "21 comparisons"),
            (&"x".repeat(1_001), "1001 bytes"),
            // Its canonical form is longer.
            (&format!("a IN ({})", vec!["'AAA'"; 160].join(",")), "stored as 1125 bytes"),
        ] {
            let refused = parse(text).expect_err(text);
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }

    #[test]
    fn the_features_of_a_condition_are_those_of_all_its_parts() {
        let features = |text: &str| parse(text).expect(text).features().join(" ");
        assert_eq!(features("carrier"), "carrier");
        assert_eq!(features("NOT (a = 1 OR b IS NULL) AND c IN (1)"), "a b c");
    }

    #[test]
    fn features_named_as_a_keyword_read_back() {
        for keyword in sqlparser::keywords::ALL_KEYWORDS {
            for feature in [keyword.to_lowercase(), (*keyword).to_owned()] {
                let by_value = Slice::ByValue(feature.clone());
                assert_eq!(parse(&by_value.to_string()), Ok(by_value));
                for test in [Test::Missing, Test::In(vec![Constant::Number(-1.0)])] {
                    let slice = Slice::Where(Condition::Is { feature: feature.clone(), test });
                    assert_eq!(parse(&slice.to_string()), Ok(slice));
                }
            }
        }
    }

    fn any_condition() -> impl Strategy<Value = Condition> {
        let number =
            prop_oneof![any::<f64>().prop_filter("finite", |number| number.is_finite()), (-9i8..9).prop_map(f64::from)];
        let constant = prop_oneof![
            number.clone().prop_map(Constant::Number),
            "[a-z' ]{0,8}".prop_map(Constant::Text),
            any::<bool>().prop_map(Constant::Flag),
        ];
        let test = prop_oneof![
            Just(Test::Missing),
            number.prop_map(|number| Test::Compare(Comparison::LessOrEqual, Constant::Number(number))),
            constant.clone().prop_map(|constant| Test::Compare(Comparison::NotEqual, constant)),
            proptest::collection::vec(constant, 1..4).prop_map(Test::In),
        ];
        let leaf = ("[a-z_. ]{1,6}", test).prop_map(|(feature, test)| Condition::Is { feature, test });
        leaf.prop_recursive(4, 12, 3, |inner| {
            let parts = proptest::collection::vec(inner.clone(), 2..4);
            prop_oneof![
                parts.clone().prop_map(Condition::All),
                parts.prop_map(Condition::Any),
                inner.prop_map(|part| Condition::Not(Box::new(part))),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_reads_back(condition in any_condition()) {
            // Its canonical form: a conjunction within one is written apart.
            let written = Slice::Where(condition).to_string();
            if let Ok(slice) = parse(&written) {
                prop_assert!(slice.to_string().len() <= Slice::MOST_BYTES);
                prop_assert_eq!(parse(&slice.to_string()), Ok(slice));
            } else {
                prop_assert!(written.len() > Slice::MOST_BYTES || written.matches(['=', '<', 'I']).count() > Slice::MOST_COMPARISONS, "{}", written);
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,200}") {
            if let Ok(slice) = parse(&text) {
                prop_assert_eq!(parse(&slice.to_string()), Ok(slice));
            }
        }

        #[test]
        fn any_feature_and_text_read_back(feature in "\\PC{1,20}", text in "\\PC{0,20}") {
            let test = Test::Compare(Comparison::Equal, Constant::Text(text));
            let slice = Slice::Where(Condition::Is { feature, test });
            prop_assert_eq!(parse(&slice.to_string()), Ok(slice));
        }
    }
}

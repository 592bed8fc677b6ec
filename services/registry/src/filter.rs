//! Filters and orders of lists, in a subset of SQL that `sqlparser` parses: `metrics.auc > 0.9 AND NOT tags.team IN ('a', 'b')`.
//!
//! Lists differ in the attributes of what they contain. Lists of runs are filtered by the database, short ones here.

use std::{cmp::Ordering, fmt};

use chrono::{DateTime, SubsecRound as _, Utc};
pub(crate) use rekindle_domain::slice::Comparison;
use rekindle_domain::{RunId, event_time};
use sqlparser::{
    ast::{BinaryOperator, Expr, Ident, InTarget, UnaryOperator, Value as Literal},
    dialect::GenericDialect,
    parser::Parser,
    tokenizer::{Token, Tokenizer},
};

use crate::Error;

/// Largest number of bytes of a filter.
const MAX_BYTES: usize = 10_000;
/// Largest number of conditions of a filter.
const MAX_CONDITIONS: usize = 100;
/// Largest number of operators and parentheses of a filter: so deep an expression may be.
const MAX_OPERATORS: usize = 300;
/// Largest number of bytes of an order.
const MAX_ORDER_BYTES: usize = 600;
/// Largest number of fields that a list is ordered by.
const MAX_ORDERS: usize = 4;
/// Characters of a filter that an error repeats.
const SHOWN: usize = 100;

/// A field of what a list contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field<A> {
    Attribute(A),
    /// The last value of a metric.
    Metric(String),
    Param(String),
    Tag(String),
}

/// A field that has its name in every entry of a list.
pub(crate) trait Attribute: Copy + PartialEq + fmt::Debug + 'static {
    /// All of them, as an error lists them.
    const ALL: &'static [Self];

    fn name(self) -> &'static str;

    fn kind(self) -> Kind;

    /// The texts that it can be; none if it can be any.
    fn texts(self) -> Vec<&'static str> {
        Vec::new()
    }

    /// A field by another name.
    fn other_name(_: &str) -> Option<Field<Self>> {
        None
    }
}

/// Which entries of a list are found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Filter<A> {
    All(Vec<Filter<A>>),
    Any(Vec<Filter<A>>),
    Not(Box<Filter<A>>),
    /// A field that an entry does not have passes no test but `Missing`.
    Is(Field<A>, Test),
}

/// What a field is compared with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    Compare(Comparison, Value),
    In(Vec<Value>),
    /// With the wildcards `%` and `_`.
    Like {
        pattern: String,
        ignore_case: bool,
    },
    Missing,
}

/// A constant of the type of its field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Text(String),
    Time(DateTime<Utc>),
    Run(RunId),
}

/// A field that a list is ordered by. Entries without it come last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order<A> {
    pub(crate) field: Field<A>,
    pub(crate) descending: bool,
}

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Number,
    Text,
    Time,
    Run,
}

impl<A: Attribute> Field<A> {
    fn kind(&self) -> Kind {
        match self {
            Self::Attribute(attribute) => attribute.kind(),
            Self::Metric(_) => Kind::Number,
            Self::Param(_) | Self::Tag(_) => Kind::Text,
        }
    }
}

impl<A: Attribute> fmt::Display for Field<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute(attribute) => f.write_str(attribute.name()),
            Self::Metric(name) => write!(f, "metrics.{}", shown(name)),
            Self::Param(name) => write!(f, "params.{}", shown(name)),
            Self::Tag(name) => write!(f, "tags.{}", shown(name)),
        }
    }
}

/// Parses a filter; an empty one finds everything.
pub(crate) fn parse_filter<A: Attribute>(text: &str) -> Result<Option<Filter<A>>, Error> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    if text.len() > MAX_BYTES {
        return Err(Error::invalid("filter", format!("has {} bytes: expected at most {MAX_BYTES}", text.len())));
    }
    let refused = |problem: String| Error::invalid("filter", problem);
    let mut conditions = 0;
    let filter = filter_of(&parsed(text).map_err(refused)?, &mut conditions).map_err(refused)?;
    if conditions > MAX_CONDITIONS {
        return Err(refused(format!("has {conditions} conditions: expected at most {MAX_CONDITIONS}")));
    }
    Ok(Some(filter))
}

/// Parses orders such as `metrics.auc DESC`.
pub(crate) fn parse_orders<A: Attribute>(texts: &[String]) -> Result<Vec<Order<A>>, Error> {
    if texts.len() > MAX_ORDERS {
        return Err(Error::invalid("order_by", format!("has {} fields: expected at most {MAX_ORDERS}", texts.len())));
    }
    texts
        .iter()
        .enumerate()
        .map(|(at, text)| order(text).map_err(|problem| Error::invalid(format!("order_by[{at}]"), problem)))
        .collect()
}

fn order<A: Attribute>(text: &str) -> Result<Order<A>, String> {
    if text.len() > MAX_ORDER_BYTES {
        return Err(format!("has {} bytes: expected at most {MAX_ORDER_BYTES}", text.len()));
    }
    let text = text.trim();
    let (field, descending) = match text.rsplit_once(char::is_whitespace) {
        Some((field, direction)) if direction.eq_ignore_ascii_case("desc") => (field, true),
        Some((field, direction)) if direction.eq_ignore_ascii_case("asc") => (field, false),
        _ => (text, false),
    };
    Ok(Order { field: field_of(&parsed(field)?)?, descending })
}

/// The whole text as one expression. Its depth is bounded before it is parsed: expressions are parsed, read and dropped by recursion.
fn parsed(text: &str) -> Result<Expr, String> {
    let dialect = GenericDialect {};
    let unreadable = |error: String| {
        format!("cannot be parsed ({}): expected e.g. metrics.auc > 0.9 AND params.layers = '2'", shown(&error))
    };
    if text.contains('\0') {
        return Err("has a NUL character".to_owned());
    }
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location();
    let tokens = tokens.map_err(|error| unreadable(error.to_string()))?;
    let operators = tokens.iter().filter(|token| is_operator(&token.token)).count();
    if operators > MAX_OPERATORS {
        return Err(format!("has {operators} operators and parentheses: expected at most {MAX_OPERATORS}"));
    }
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let expression = parser.parse_expr().map_err(|error| unreadable(error.to_string()))?;
    match parser.next_token().token {
        Token::EOF => Ok(expression),
        token => Err(format!("has an unexpected {}: expected AND, OR or its end", shown(&token.to_string()))),
    }
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => {
            word.quote_style.is_none()
                && ["and", "or", "not", "is", "between", "in", "like", "ilike"]
                    .iter()
                    .any(|keyword| word.value.eq_ignore_ascii_case(keyword))
        }
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::Comma
        | Token::Period
        | Token::Whitespace(_)
        | Token::EOF => false,
        _ => true,
    }
}

/// The beginning of a text, for an error.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

fn filter_of<A: Attribute>(expression: &Expr, conditions: &mut usize) -> Result<Filter<A>, String> {
    let negated = |filter: Filter<A>, is_negated: bool| if is_negated { Filter::Not(filter.into()) } else { filter };
    match expression {
        Expr::Nested(inner) => filter_of(inner, conditions),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => Ok(Filter::Not(filter_of(expr, conditions)?.into())),
        Expr::BinaryOp { left, op: op @ (BinaryOperator::And | BinaryOperator::Or), right } => {
            let (left, right) = (filter_of(left, conditions)?, filter_of(right, conditions)?);
            Ok(match (op, left) {
                (BinaryOperator::And, Filter::All(mut parts)) => {
                    parts.push(right);
                    Filter::All(parts)
                }
                (BinaryOperator::And, left) => Filter::All(vec![left, right]),
                (_, Filter::Any(mut parts)) => {
                    parts.push(right);
                    Filter::Any(parts)
                }
                (_, left) => Filter::Any(vec![left, right]),
            })
        }
        Expr::BinaryOp { left, op, right } => {
            let field = field_of(left)?;
            let comparison = comparison(op)?;
            let value = value(&field, right)?;
            must_be_possible(&field, std::slice::from_ref(&value))?;
            let is_ordered = matches!(field.kind(), Kind::Number | Kind::Time);
            if !is_ordered && !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
                return Err(format!("compares {field} by {op}: a text is compared by =, !=, IN, LIKE or ILIKE"));
            }
            Ok(is(conditions, field, Test::Compare(comparison, value)))
        }
        Expr::Between { expr, negated: is_negated, low, high } => {
            let field = field_of(expr)?;
            if !matches!(field.kind(), Kind::Number | Kind::Time) {
                return Err(format!("compares {field} by BETWEEN: a text is compared by =, !=, IN, LIKE or ILIKE"));
            }
            let (low, high) = (value(&field, low)?, value(&field, high)?);
            let low = is(conditions, field.clone(), Test::Compare(Comparison::GreaterOrEqual, low));
            let high = is(conditions, field, Test::Compare(Comparison::LessOrEqual, high));
            Ok(negated(Filter::All(vec![low, high]), *is_negated))
        }
        Expr::In { expr, target: InTarget::List(list), negated: is_negated, global: false } => {
            let field = field_of(expr)?;
            let values: Vec<_> = list.iter().map(|item| value(&field, item)).collect::<Result<_, _>>()?;
            must_be_possible(&field, &values)?;
            Ok(negated(is(conditions, field, Test::In(values)), *is_negated))
        }
        Expr::Like { negated: is_negated, any: false, expr, pattern, escape_char: None } => {
            let field = field_of(expr)?;
            let test = like(&field, pattern, false)?;
            Ok(negated(is(conditions, field, test), *is_negated))
        }
        Expr::ILike { negated: is_negated, any: false, expr, pattern, escape_char: None } => {
            let field = field_of(expr)?;
            let test = like(&field, pattern, true)?;
            Ok(negated(is(conditions, field, test), *is_negated))
        }
        Expr::IsNull(expr) => Ok(is(conditions, field_of(expr)?, Test::Missing)),
        Expr::IsNotNull(expr) => Ok(Filter::Not(is(conditions, field_of(expr)?, Test::Missing).into())),
        _ => Err("has a part that is no condition: expected a field, an operator and a constant".to_owned()),
    }
}

fn is<A>(conditions: &mut usize, field: Field<A>, test: Test) -> Filter<A> {
    *conditions += 1;
    Filter::Is(field, test)
}

fn like<A: Attribute>(field: &Field<A>, pattern: &Expr, ignore_case: bool) -> Result<Test, String> {
    if field.kind() != Kind::Text {
        return Err(format!("compares {field} by LIKE: only a text has a pattern"));
    }
    match value(field, pattern)? {
        Value::Text(pattern) => Ok(Test::Like { pattern, ignore_case }),
        _ => unreachable!("a text is compared with a text"),
    }
}

/// Refuses texts that an attribute cannot be, which would find nothing.
fn must_be_possible<A: Attribute>(field: &Field<A>, values: &[Value]) -> Result<(), String> {
    let Field::Attribute(attribute) = field else { return Ok(()) };
    let possible = attribute.texts();
    let is_possible = |value: &Value| matches!(value, Value::Text(text) if possible.contains(&text.as_str()));
    if possible.is_empty() || values.iter().all(is_possible) {
        return Ok(());
    }
    Err(format!("compares {} with another text: expected one of {}", attribute.name(), possible.join(", ")))
}

fn comparison(op: &BinaryOperator) -> Result<Comparison, String> {
    let expected = || format!("has the operator {op}: expected =, !=, <, <=, >, >=, IN, LIKE, ILIKE or BETWEEN");
    op.to_string().parse().map_err(|_| expected())
}

fn field_of<A: Attribute>(expression: &Expr) -> Result<Field<A>, String> {
    let parts: &[Ident] = match expression {
        Expr::Identifier(name) => std::slice::from_ref(name),
        Expr::CompoundIdentifier(parts) => parts,
        Expr::Nested(inner) => return field_of(inner),
        _ => return Err(format!("has no field on the left of an operator: {EXPECTED_FIELD}")),
    };
    let [first, rest @ ..] = parts else { return Err(EXPECTED_FIELD.to_owned()) };
    let name = rest.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".");
    match (first.value.to_ascii_lowercase().as_str(), name.as_str()) {
        (attribute, "") => attribute_of(attribute),
        ("metrics" | "metric", _) => Ok(Field::Metric(name)),
        ("params" | "param" | "parameters" | "parameter", _) => Ok(Field::Param(name)),
        ("tags" | "tag", _) => Ok(Field::Tag(name)),
        ("attributes" | "attribute" | "run", attribute) => attribute_of(attribute),
        (first, _) => Err(format!("has the unknown field {}.{}: {EXPECTED_FIELD}", shown(first), shown(&name))),
    }
}

/// Names with other characters than letters, digits and `_` are quoted.
const EXPECTED_FIELD: &str = "expected metrics.NAME, params.NAME, tags.NAME or an attribute; a name with other characters than \
                              letters, digits and _ is written in double quotes";

fn attribute_of<A: Attribute>(name: &str) -> Result<Field<A>, String> {
    if let Some(field) = A::other_name(name) {
        return Ok(field);
    }
    let named = A::ALL.iter().find(|attribute| attribute.name() == name);
    named.copied().map(Field::Attribute).ok_or_else(|| {
        let names: Vec<_> = A::ALL.iter().map(|attribute| attribute.name()).collect();
        let names = names.join(", ");
        format!(
            "has the unknown attribute {name:?}: expected one of {names}, or metrics.NAME, params.NAME or tags.NAME"
        )
    })
}

/// A constant for a field.
fn value<A: Attribute>(field: &Field<A>, expression: &Expr) -> Result<Value, String> {
    let given = match expression {
        Expr::Value(literal) => literal.value.clone(),
        // A quoted name in the place of a value is a text, as MLflow has it.
        Expr::Identifier(name) if name.quote_style.is_some() => Literal::SingleQuotedString(name.value.clone()),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(literal) => match &literal.value {
                Literal::Number(digits, long) => Literal::Number(format!("-{digits}"), *long),
                _ => return Err(format!("compares {field} with the negative of no number")),
            },
            _ => return Err(format!("compares {field} with the negative of no number")),
        },
        _ => return Err(format!("compares {field} with an expression: expected a constant")),
    };
    match (field.kind(), given) {
        (Kind::Number, Literal::Number(digits, _)) => {
            let number = digits.parse::<f64>().ok().filter(|number| number.is_finite());
            number
                .map(Value::Number)
                .ok_or_else(|| format!("compares {field} with {}: expected a finite number", shown(&digits)))
        }
        (Kind::Text, Literal::SingleQuotedString(text) | Literal::DoubleQuotedString(text)) => Ok(Value::Text(text)),
        // Params are texts, and numbers are written as such.
        (Kind::Text, Literal::Number(digits, _)) => Ok(Value::Text(digits)),
        (Kind::Time, Literal::SingleQuotedString(text) | Literal::DoubleQuotedString(text)) => {
            let time = DateTime::parse_from_rfc3339(&text).ok().map(|time| time.to_utc().trunc_subsecs(6));
            time.filter(is_storable).map(Value::Time).ok_or_else(|| {
                format!("compares {field} with {:?}: expected a time such as '2026-03-01T12:00:00Z'", shown(&text))
            })
        }
        (Kind::Time, Literal::Number(digits, _)) => {
            let time = digits.parse().ok().and_then(DateTime::from_timestamp_millis);
            time.filter(is_storable)
                .map(Value::Time)
                .ok_or_else(|| format!("compares {field} with {}: expected milliseconds since 1970", shown(&digits)))
        }
        (Kind::Run, Literal::SingleQuotedString(text) | Literal::DoubleQuotedString(text)) => text
            .parse()
            .map(Value::Run)
            .map_err(|_| format!("compares {field} with {:?}: expected the id of a run", shown(&text))),
        (Kind::Number, other) => Err(format!("compares {field} with {}: expected a number", shown(&other.to_string()))),
        (_, other) => {
            Err(format!("compares {field} with {}: expected a text in single quotes", shown(&other.to_string())))
        }
    }
}

/// Whether a database compares the time as it is: one of the years 1 to 9999.
fn is_storable(time: &DateTime<Utc>) -> bool {
    event_time::checked(time.timestamp_millis()).is_ok()
}

/// Whether an entry is found; `of` has the value of a field of it.
pub(crate) fn matches<A: Attribute>(filter: &Filter<A>, of: &impl Fn(&Field<A>) -> Option<Value>) -> bool {
    match filter {
        Filter::All(parts) => parts.iter().all(|part| matches(part, of)),
        Filter::Any(parts) => parts.iter().any(|part| matches(part, of)),
        Filter::Not(part) => !matches(part, of),
        Filter::Is(field, test) => match (of(field), test) {
            (value, Test::Missing) => value.is_none(),
            (None, _) => false,
            (Some(value), Test::Compare(comparison, with)) => {
                compare(&value, with).is_some_and(|order| comparison.holds(order))
            }
            (Some(value), Test::In(values)) => values.contains(&value),
            (Some(Value::Text(text)), Test::Like { pattern, ignore_case }) => {
                if *ignore_case {
                    is_like(&text.to_lowercase(), &pattern.to_lowercase())
                } else {
                    is_like(&text, pattern)
                }
            }
            (Some(_), Test::Like { .. }) => false,
        },
    }
}

/// The order of two values of one type.
pub(crate) fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.partial_cmp(other),
        (Value::Text(one), Value::Text(other)) => Some(one.cmp(other)),
        (Value::Time(one), Value::Time(other)) => Some(one.cmp(other)),
        (Value::Run(one), Value::Run(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

/// Whether a text has a pattern with the wildcards `%` and `_`, in time proportional to the product of their lengths.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut within, mut resume) = (0, 0, None);
    while at < text.len() {
        match pattern.get(within) {
            Some('%') => {
                resume = Some((at, within));
                within += 1;
            }
            Some(&expected) if expected == '_' || expected == text[at] => (at, within) = (at + 1, within + 1),
            // The last `%` takes one character more.
            _ => match resume {
                Some((from, wildcard)) => {
                    (at, within) = (from + 1, wildcard + 1);
                    resume = Some((from + 1, wildcard));
                }
                None => return false,
            },
        }
    }
    pattern[within..].iter().all(|&rest| rest == '%')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::filter::Attribute as Of;

    type Filter = super::Filter<Of>;
    type Field = super::Field<Of>;

    fn filter(text: &str) -> Filter {
        parse_filter::<Of>(text).unwrap_or_else(|error| panic!("{text}: {error}")).expect("not empty")
    }

    fn refused(text: &str) -> String {
        parse_filter::<Of>(text).expect_err(text).to_string()
    }

    fn metric(name: &str, comparison: Comparison, value: f64) -> Filter {
        Filter::Is(Field::Metric(name.into()), Test::Compare(comparison, Value::Number(value)))
    }

    fn text(field: Field, value: &str) -> Filter {
        Filter::Is(field, Test::Compare(Comparison::Equal, Value::Text(value.into())))
    }

    #[test]
    fn conditions_bind_as_in_sql() {
        let (a, b) = (metric("a", Comparison::Greater, 0.5), metric("b", Comparison::LessOrEqual, -1e-3));
        let c = text(Field::Param("model".into()), "tree");
        assert_eq!(filter("metrics.a > 0.5"), a);
        assert_eq!(
            filter("metrics.a > .5 OR metrics.b <= -1e-3 AND params.model = 'tree'"),
            Filter::Any(vec![a.clone(), Filter::All(vec![b.clone(), c.clone()])])
        );
        assert_eq!(
            filter("not (metric.a > 0.5 and metrics.b <= -0.001 and parameters.model = \"tree\")"),
            Filter::Not(Filter::All(vec![a, b, c]).into())
        );
    }

    #[test]
    fn names_may_have_dots_and_be_quoted() {
        assert_eq!(filter("metrics.validation.log_loss = 1"), metric("validation.log_loss", Comparison::Equal, 1.0));
        for quoted in ["tags.\"mlflow.source-name\" = 'x'", "tag.`mlflow.source-name` = 'x'"] {
            assert_eq!(filter(quoted), text(Field::Tag("mlflow.source-name".into()), "x"));
        }
        assert_eq!(filter("attributes.status = 'FINISHED'"), filter("status = 'FINISHED'"));
        assert_eq!(filter("params.layers = 2"), text(Field::Param("layers".into()), "2"));
        assert_eq!(filter("params.why = 'it''s'"), text(Field::Param("why".into()), "it's"));
    }

    #[test]
    fn lists_patterns_ranges_and_missing_fields() {
        let tag = || Field::Tag("team".into());
        let texts = ["a", "b"].map(|text| Value::Text(text.into())).to_vec();
        assert_eq!(filter("tags.team in ('a', 'b')"), Filter::Is(tag(), Test::In(texts.clone())));
        assert_eq!(filter("tags.team NOT IN ('a', 'b')"), Filter::Not(Filter::Is(tag(), Test::In(texts)).into()));
        let pattern = Test::Like { pattern: "%x_".into(), ignore_case: true };
        assert_eq!(filter("tags.team ILIKE '%x_'"), Filter::Is(tag(), pattern));
        assert_eq!(filter("tags.team IS NULL"), Filter::Is(tag(), Test::Missing));
        assert_eq!(
            filter("metrics.a BETWEEN 1 AND 2"),
            Filter::All(vec![metric("a", Comparison::GreaterOrEqual, 1.0), metric("a", Comparison::LessOrEqual, 2.0)])
        );
        let time: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().expect("a time");
        let after =
            Filter::Is(Field::Attribute(Of::CreatedAt), Test::Compare(Comparison::GreaterOrEqual, Value::Time(time)));
        assert_eq!(filter("created_at >= '2026-03-01T13:00:00+01:00'"), after);
        assert_eq!(filter(&format!("attributes.created_at >= {}", time.timestamp_millis())), after);
    }

    #[test]
    fn what_is_no_filter_is_refused_with_the_reason() {
        for (text, named) in [
            ("metrics.a", "is no condition"),
            ("metrics.a > 'x'", "expected a number"),
            ("metrics.a > 1e999", "expected a finite number"),
            ("metrics.a > metrics.b", "expected a constant"),
            ("metrics.a LIKE 'x'", "LIKE"),
            ("params.a > 'x'", "=, !=, IN, LIKE or ILIKE"),
            ("params.a = 1 + 1", "expected a constant"),
            ("status = 'LOST' status", "unexpected status"),
            ("colour = 'red'", "unknown attribute \"colour\""),
            ("weights.a = 1", "unknown field weights.a"),
            ("created_at > 'yesterday'", "2026-03-01T12:00:00Z"),
            ("id = 'x'", "expected the id of a run"),
            ("metrics.log-loss > 1", "double quotes"),
            ("metrics.a > 1; DROP TABLE runs", "unexpected ;"),
            ("metrics.a > (SELECT 1)", "expected a constant"),
            ("(((", "cannot be parsed"),
            ("status = 'finished'", "expected one of SCHEDULED, RUNNING"),
            ("created_at > 8200000000000000", "expected milliseconds"),
            ("params.a = '\0'", "NUL"),
        ] {
            let problem = refused(text);
            assert!(problem.contains(named), "{text}: {problem}");
        }
        assert!(refused(&"x".repeat(MAX_BYTES + 1)).contains("expected at most 10000"));
        assert!(refused(&vec!["metrics.a > 1"; 101].join(" AND ")).contains("101 conditions"));
        assert!(refused(&format!("{}status = 'x'{}", "(".repeat(100), ")".repeat(100))).contains("recursion"));
        assert!(refused(&format!("params.{} = 1 + 1", "x".repeat(9_000))).len() < 1_000);
        assert!(parse_filter::<Of>("  ").expect("empty").is_none());
    }

    #[test]
    fn a_deep_expression_takes_little_of_the_stack() {
        let deep = [
            "1+".repeat(4_990),
            "''OR".repeat(2_490),
            "NOT ".repeat(2_490),
            "metrics.a>1 OR ".repeat(600),
            "-".repeat(9_990),
            "a=".repeat(4_990),
            format!("{}1", "metrics.a=1 AND NOT (".repeat(70)),
        ];
        // The stack of a thread that serves calls.
        let parse =
            move || deep.iter().for_each(|text| _ = parse_filter::<Of>(text).expect_err("too deep, or incomplete"));
        std::thread::Builder::new().stack_size(2 << 20).spawn(parse).expect("a thread").join().expect("no overflow");
    }

    #[test]
    fn orders_have_a_field_and_a_direction() {
        let orders =
            |texts: &[&str]| parse_orders::<Of>(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
        assert_eq!(
            orders(&["metrics.auc DESC", "start_x", "params.\"a b\" asc"]).expect_err("unknown").to_string(),
            "order_by[1]: has the unknown attribute \"start_x\": expected one of id, parent_id, experiment, status, \
             code_revision, created_at, started_at, ended_at, or metrics.NAME, params.NAME or tags.NAME"
        );
        let order = |field, descending| Order { field, descending };
        assert_eq!(
            orders(&["metrics.auc DESC", "created_at", "params.\"a b\" asc"]).expect("valid"),
            [
                order(Field::Metric("auc".into()), true),
                order(Field::Attribute(Of::CreatedAt), false),
                order(Field::Param("a b".into()), false)
            ]
        );
        assert!(orders(&["id"; 5]).is_err());
    }

    #[test]
    fn entries_are_matched_as_a_database_does() {
        let of = |field: &Field| match field {
            Field::Tag(name) if name == "team" => Some(Value::Text("Risk: a".into())),
            Field::Metric(name) if name == "auc" => Some(Value::Number(0.5)),
            Field::Attribute(Of::CreatedAt) => Some(Value::Time(DateTime::UNIX_EPOCH)),
            _ => None,
        };
        for (text, found) in [
            ("tags.team = 'Risk: a'", true),
            ("tags.team != 'x' AND metrics.auc >= 0.5", true),
            ("metrics.auc > 0.5 OR metrics.auc < 0.5", false),
            ("tags.other != 'x'", false),
            ("NOT tags.other = 'x'", true),
            ("tags.other IS NULL AND tags.team IS NOT NULL", true),
            ("tags.team LIKE 'Risk%'", true),
            ("tags.team LIKE 'risk%'", false),
            ("tags.team ILIKE 'risk%A'", true),
            ("tags.team LIKE '%:_a'", true),
            ("tags.team LIKE '%i%a%'", true),
            ("tags.team LIKE '_isk'", false),
            ("tags.team LIKE ''", false),
            ("tags.team IN ('x', 'Risk: a')", true),
            ("created_at < '2026-03-01T12:00:00Z'", true),
        ] {
            assert_eq!(matches(&filter(text), &of), found, "{text}");
        }
    }
}

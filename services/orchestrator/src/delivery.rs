//! Delivery metrics: read from the events of the stream, and computed by [`rekindle_domain::delivery`].

use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};
use rekindle_bus::{cloudevent, read::From, streams::EVENTS, subject};
use rekindle_client::wire::delivery;
use rekindle_domain::{
    ModelName,
    delivery::{DeliveryMetrics, Happened, Occurrence, measure},
};
use rekindle_service::{Call, chain};

use crate::{Error, core::Core};

/// The span that is read without `from`.
const DEFAULT_SPAN: TimeDelta = TimeDelta::days(30);
/// The longest span.
const LONGEST_SPAN: TimeDelta = TimeDelta::days(366);
/// What ends in the span began so long before it at most: no workflow lasts longer.
const BEFORE: TimeDelta = TimeDelta::days(30);

/// What a caller asks for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// `None` is every model of the namespace.
    pub model: Option<ModelName>,
    pub from: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
}

/// The metrics, and the span that they are of.
pub(crate) async fn metrics(
    core: &Core,
    call: &Call,
    asked: &Asked,
) -> Result<(Range<DateTime<Utc>>, DeliveryMetrics), Error> {
    let until = asked.until.unwrap_or(call.now);
    let from = asked.from.unwrap_or(until - DEFAULT_SPAN);
    if from >= until {
        return Err(Error::invalid("from", format!("is {from}: expected a time before until, which is {until}")));
    }
    if until - from > LONGEST_SPAN {
        return Err(Error::invalid(
            "from",
            format!("is {from}: expected at most 366 days before until, which is {until}"),
        ));
    }
    let model = asked.model.clone();
    let concerns = |happened: &Happened| {
        happened.model().is_none_or(|named| match &model {
            Some(model) => model == named,
            None => call.namespace.contains(named.as_str()),
        })
    };
    let events = read(core, from - BEFORE, concerns).await?;
    let metrics = tokio::task::spawn_blocking({
        let span = from..until;
        move || measure(events, model.as_ref(), span)
    });
    let metrics = metrics.await.map_err(|error| Error::unrecoverable(error.to_string()))?;
    Ok((from..until, metrics))
}

/// The events since `from` that concern the caller, in order. One that cannot be read is left out, and the log says so.
async fn read(
    core: &Core,
    from: DateTime<Utc>,
    concerns: impl Fn(&Happened) -> bool,
) -> Result<Vec<Occurrence>, Error> {
    let mut events = Vec::new();
    for kind in delivery::KINDS {
        core.bus
            .read(EVENTS, subject::events_of(kind), From::Time(from), |stored| {
                let event = cloudevent::from_stored(&stored).map_err(|error| chain(&error));
                let happened = event.and_then(|event| {
                    let happened = delivery::happened(event.kind, &event.data).map_err(|error| error.to_string())?;
                    Ok(happened.map(|happened| Occurrence {
                        at: event.time,
                        correlation_id: event.context.correlation_id,
                        happened,
                    }))
                });
                match happened {
                    Ok(happened) => {
                        let happened = happened.filter(|occurred| concerns(&occurred.happened));
                        events.extend(happened.map(|happened| (stored.sequence, happened)));
                    }
                    Err(error) => tracing::warn!(sequence = stored.sequence, error, "an event cannot be read"),
                }
                true
            })
            .await?;
    }
    events.sort_unstable_by_key(|(sequence, event)| (event.at, *sequence));
    Ok(events.into_iter().map(|(_, event)| event).collect())
}

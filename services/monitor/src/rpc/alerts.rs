//! The service `Alerts`.

use chrono::{DateTime, Utc};
use rekindle_client::wire::{alert as wire, field};
use rekindle_domain::{
    Alert, IdPrefix, ModelName, SilenceId,
    alert::{Note, Silence},
    audit::Entry,
};
use rekindle_proto::monitor::{self as proto, alerts_server::Alerts};
use rekindle_service::{Call, Intent, RequestError, only};
use rekindle_store::{audit::append, in_transaction};
use tonic::{Request, Response, Status};

use super::paged;
use crate::{
    App, Error, alert,
    store::{alerts, notifications, silences},
};

/// The longest reason, in characters.
const LONGEST_WHY: usize = 1000;

fn why(text: &str, is_required: bool) -> Result<(), RequestError> {
    let length = text.chars().count();
    if is_required && text.trim().is_empty() {
        return Err(RequestError::invalid("why", "is missing: state the reason"));
    }
    if length > LONGEST_WHY {
        return Err(RequestError::invalid("why", format!("has {length} characters: expected at most {LONGEST_WHY}")));
    }
    Ok(())
}

impl App {
    /// The one alert whose id begins so.
    async fn find_alert(&self, id: &str) -> Result<Alert, Error> {
        let prefix: IdPrefix = field::parse("id", id)?;
        let mut found = alerts::beginning_with(&self.0.db, &prefix, 2).await?;
        only("alert", &prefix, &found.iter().map(|alert| alert.id).collect::<Vec<_>>())?;
        Ok(found.remove(0))
    }

    /// Changes an alert by what `change` makes of it, in one transaction, and returns it.
    async fn change_alert(
        &self,
        call: Call,
        id: &str,
        note: Note,
        change: fn(Alert, Note) -> Alert,
    ) -> Result<Alert, Error> {
        let id = self.find_alert(id).await?.id;
        in_transaction(&self.0.db, async move |txn| {
            let before = alerts::get(txn, id).await?.ok_or_else(|| RequestError::not_found("alert", id))?;
            let after = change(before.clone(), note.clone());
            if after != before {
                alert::store_change(txn, &after, &call).await?;
            }
            Ok::<_, Error>(after)
        })
        .await
    }

    async fn create_silence(&self, call: Call, intent: Option<Intent>, silence: Silence) -> Result<Silence, Error> {
        in_transaction(&self.0.db, async move |txn| {
            if let Some(intent) = &intent
                && let Some(id) = intent.earlier::<SilenceId, Error>(txn).await?
                && let Some(earlier) = silences::get(txn, id).await?
            {
                return Ok(earlier);
            }
            silences::insert(txn, &silence).await?;
            let entry = call.entry("silence.created", format!("silence/{}", silence.model));
            let after = wire::silence_to_json(&silence).to_string();
            append(txn, Entry { after, reason: silence.why.clone(), ..entry }).await?;
            if let Some(intent) = &intent {
                intent.record(txn, &silence.id, call.now).await?;
            }
            Ok::<_, Error>(silence.clone())
        })
        .await
    }

    async fn end_silence(&self, call: Call, id: SilenceId) -> Result<Silence, Error> {
        in_transaction(&self.0.db, async move |txn| {
            let before = silences::get(txn, id).await?.ok_or_else(|| RequestError::not_found("silence", id))?;
            if before.until <= call.now {
                return Ok(before);
            }
            silences::end(txn, id, call.now).await?;
            let after = Silence { until: call.now, ..before.clone() };
            let text = |silence: &Silence| wire::silence_to_json(silence).to_string();
            let entry = call.entry("silence.ended", format!("silence/{}", before.model));
            append(txn, Entry { before: text(&before), after: text(&after), ..entry }).await?;
            Ok::<_, Error>(after)
        })
        .await
    }
}

/// The end of a silence that a request asks for.
fn end_of_silence(given: DateTime<Utc>, now: DateTime<Utc>) -> Result<DateTime<Utc>, RequestError> {
    let problem = if given <= now {
        "is in the past"
    } else if given > now + Silence::LONGEST {
        "is more than 366 days ahead"
    } else {
        return Ok(given);
    };
    Err(RequestError::invalid("until", problem))
}

#[tonic::async_trait]
impl Alerts for App {
    async fn list_alerts(
        &self,
        request: Request<proto::ListAlertsRequest>,
    ) -> Result<Response<proto::ListAlertsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let model: Option<ModelName> = call.optional_name("model", &request.model).map_err(Error::from)?;
        let (page, before) = paged(request.page_size, &request.page_token, alerts::parse_id)?;
        let all = request.include_resolved;
        let found = alerts::list(&self.0.db, &call.namespace, model.as_ref(), all, before, page.fetch());
        let found = found.await.map_err(Error::from)?;
        let (alerts, next_page_token) = page.cut(found, |alert| alert.id.to_string(), wire::to_wire);
        Ok(Response::new(proto::ListAlertsResponse { alerts, next_page_token }))
    }

    async fn get_alert(&self, request: Request<proto::GetAlertRequest>) -> Result<Response<proto::Alert>, Status> {
        let (_, request) = Call::open(request)?;
        let alert = self.find_alert(&request.id).await?;
        let sent = notifications::of_alert(&self.0.db, alert.id).await.map_err(Error::from)?;
        Ok(Response::new(wire::notified_to_wire(&alert, &sent)))
    }

    async fn acknowledge_alert(
        &self,
        request: Request<proto::AcknowledgeAlertRequest>,
    ) -> Result<Response<proto::Alert>, Status> {
        let (call, request) = Call::open(request)?;
        why(&request.why, false)?;
        let note = Note { by: call.principal.to_string(), why: request.why, at: call.now };
        let changed = self.change_alert(call, &request.id, note, Alert::acknowledged).await?;
        Ok(Response::new(wire::to_wire(&changed)))
    }

    async fn resolve_alert(
        &self,
        request: Request<proto::ResolveAlertRequest>,
    ) -> Result<Response<proto::Alert>, Status> {
        let (call, request) = Call::open(request)?;
        why(&request.why, true)?;
        let note = Note { by: call.principal.to_string(), why: request.why, at: call.now };
        let changed = self.change_alert(call, &request.id, note, Alert::resolved).await?;
        Ok(Response::new(wire::to_wire(&changed)))
    }

    async fn create_silence(
        &self,
        request: Request<proto::CreateSilenceRequest>,
    ) -> Result<Response<proto::Silence>, Status> {
        let (call, request) = Call::open(request)?;
        let key = request.idempotency_key.clone();
        let intent = match key.as_str() {
            "" => None,
            key => Some(Intent::of("CreateSilence", &call.namespace, key, &request)?),
        };
        let model: ModelName = call.name("model", &request.model).map_err(Error::from)?;
        let kind = wire::optional_kind_from_wire("kind", request.kind).map_err(Error::from)?;
        let until = field::required_time("until", request.until).map_err(Error::from)?;
        why(&request.why, true)?;
        let silence = Silence {
            id: SilenceId::new(call.id),
            model,
            kind,
            created_at: call.now,
            until: end_of_silence(until, call.now)?,
            by: call.principal.to_string(),
            why: request.why,
        };
        self.require(&silence.model).await?;
        let created = App::create_silence(self, call, intent, silence).await?;
        Ok(Response::new(wire::silence_to_wire(&created)))
    }

    async fn list_silences(
        &self,
        request: Request<proto::ListSilencesRequest>,
    ) -> Result<Response<proto::ListSilencesResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let model: Option<ModelName> = call.optional_name("model", &request.model).map_err(Error::from)?;
        let (page, before) = paged(request.page_size, &request.page_token, |text| text.parse::<SilenceId>().ok())?;
        let found = silences::list(&self.0.db, &call.namespace, model.as_ref(), call.now, before, page.fetch());
        let found = found.await.map_err(Error::from)?;
        let (silences, next_page_token) = page.cut(found, |silence| silence.id.to_string(), wire::silence_to_wire);
        Ok(Response::new(proto::ListSilencesResponse { silences, next_page_token }))
    }

    async fn end_silence(
        &self,
        request: Request<proto::EndSilenceRequest>,
    ) -> Result<Response<proto::Silence>, Status> {
        let (call, request) = Call::open(request)?;
        let id: SilenceId = field::parse("id", &request.id).map_err(Error::from)?;
        let ended = App::end_silence(self, call, id).await?;
        Ok(Response::new(wire::silence_to_wire(&ended)))
    }

    async fn test_receiver(
        &self,
        request: Request<proto::TestReceiverRequest>,
    ) -> Result<Response<proto::Notification>, Status> {
        let (call, request) = Call::open(request)?;
        let receivers = &self.0.receivers;
        let sender = receivers.get(&request.receiver).ok_or_else(|| {
            let names: Vec<&str> = receivers.names().collect();
            let known = if names.is_empty() { "none is configured".to_owned() } else { names.join(", ") };
            RequestError::not_found("receiver", format!("{} (monitor.alerts.receivers: {known})", request.receiver))
        })?;
        Ok(Response::new(wire::notification_to_wire(&alert::test(sender, call.now).await)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_ends_in_the_future_and_within_a_year() {
        let now = DateTime::UNIX_EPOCH;
        let ends = |seconds| end_of_silence(DateTime::from_timestamp(seconds, 0).expect("a time"), now).is_ok();
        assert_eq!([0, 1, 366 * 86_400, 366 * 86_400 + 1].map(ends), [false, true, true, false]);
    }

    #[test]
    fn a_reason_is_bounded_and_where_it_is_required_not_blank() {
        assert!(why("", false).is_ok() && why("known", true).is_ok());
        assert!(why(" ", true).is_err() && why(&"x".repeat(1001), false).is_err());
    }
}

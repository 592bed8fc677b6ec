//! The monitor's alerts: list, acknowledge, resolve and silence them.

use chrono::{DateTime, Utc};
use rekindle_domain::{
    Alert, IdPrefix, ModelName, SilenceId,
    alert::{AlertKind, Notification, Silence},
};
use rekindle_proto::monitor::{self as proto, alerts_client::AlertsClient};

use crate::{
    Connection, Error, Page, PageRequest,
    registry::page_of,
    wire::{
        alert::{self, kind_to_wire},
        field, time,
    },
};

/// A client of the monitor's alerts; clones share the connection.
#[derive(Debug, Clone)]
pub struct Alerts(Connection);

impl Alerts {
    /// A client on a connection.
    pub fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// Alerts of a model or of all, the latest first.
    pub async fn list(
        &self,
        model: Option<&ModelName>,
        include_resolved: bool,
        page: PageRequest,
    ) -> Result<Page<Alert>, Error> {
        let operation = "list the alerts";
        let model = model.map(ToString::to_string).unwrap_or_default();
        let request =
            proto::ListAlertsRequest { model, include_resolved, page_size: page.size, page_token: page.token };
        let call = || async { AlertsClient::new(self.0.stub()).list_alerts(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        page_of(operation, field::each("alerts", answer.alerts, alert::from_wire), answer.next_page_token)
    }

    /// One alert, whose id may be abbreviated, with its notifications.
    pub async fn get(&self, id: &IdPrefix) -> Result<(Alert, Vec<Notification>), Error> {
        let operation = "read the alert";
        let request = proto::GetAlertRequest { id: id.to_string() };
        let call = || async { AlertsClient::new(self.0.stub()).get_alert(request.clone()).await };
        let mut answer = self.0.call(operation, call).await?;
        let notifications = std::mem::take(&mut answer.notifications);
        let notifications = field::each("notifications", notifications, alert::notification_from_wire);
        let notifications = notifications.map_err(Error::response(operation))?;
        Ok((alert::from_wire(answer).map_err(Error::response(operation))?, notifications))
    }

    /// Takes an alert over.
    pub async fn acknowledge(&self, id: &IdPrefix, why: impl Into<String>) -> Result<Alert, Error> {
        let operation = "acknowledge the alert";
        let request = proto::AcknowledgeAlertRequest { id: id.to_string(), why: why.into() };
        let call = || async { AlertsClient::new(self.0.stub()).acknowledge_alert(request.clone()).await };
        alert::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Closes an alert.
    pub async fn resolve(&self, id: &IdPrefix, why: impl Into<String>) -> Result<Alert, Error> {
        let operation = "resolve the alert";
        let request = proto::ResolveAlertRequest { id: id.to_string(), why: why.into() };
        let call = || async { AlertsClient::new(self.0.stub()).resolve_alert(request.clone()).await };
        alert::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Suppresses the notifications of a model until a time.
    pub async fn silence(
        &self,
        model: &ModelName,
        kind: Option<AlertKind>,
        until: DateTime<Utc>,
        why: impl Into<String>,
        idempotency_key: impl Into<String>,
    ) -> Result<Silence, Error> {
        let operation = "silence the alerts";
        let request = proto::CreateSilenceRequest {
            model: model.to_string(),
            kind: kind.map_or(proto::AlertKind::Unspecified, kind_to_wire).into(),
            until: Some(time::to_wire(until)),
            why: why.into(),
            idempotency_key: idempotency_key.into(),
        };
        let call = || async { AlertsClient::new(self.0.stub()).create_silence(request.clone()).await };
        alert::silence_from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Silences of a model or of all that have not ended.
    pub async fn silences(&self, model: Option<&ModelName>, page: PageRequest) -> Result<Page<Silence>, Error> {
        let operation = "list the silences";
        let model = model.map(ToString::to_string).unwrap_or_default();
        let request = proto::ListSilencesRequest { model, page_size: page.size, page_token: page.token };
        let call = || async { AlertsClient::new(self.0.stub()).list_silences(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        page_of(operation, field::each("silences", answer.silences, alert::silence_from_wire), answer.next_page_token)
    }

    /// Ends a silence now.
    pub async fn end_silence(&self, id: SilenceId) -> Result<Silence, Error> {
        let operation = "end the silence";
        let request = proto::EndSilenceRequest { id: id.to_string() };
        let call = || async { AlertsClient::new(self.0.stub()).end_silence(request.clone()).await };
        alert::silence_from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Sends a test notification to a receiver. The call is made once.
    pub async fn test_receiver(&self, receiver: impl Into<String>) -> Result<Notification, Error> {
        let operation = "test the receiver";
        let request = proto::TestReceiverRequest { receiver: receiver.into() };
        let answer = self.0.call_once(operation, AlertsClient::new(self.0.stub()).test_receiver(request)).await?;
        alert::notification_from_wire(answer).map_err(Error::response(operation))
    }
}

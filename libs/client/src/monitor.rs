//! The monitor: settings, outcomes, reports and the prediction log.

use chrono::{DateTime, Utc};
use rekindle_domain::{
    ModelName, PredictionId, Watch, WatchSettings,
    failure::FailedRequests,
    outcome::Outcome,
    prediction_log::{AcceptedOutcomes, CaptureStatus, ExportRequest, LabelledExport, LoggedPrediction},
    report::WindowReport,
};
use rekindle_proto::monitor::{self as proto, monitor_client::MonitorClient};

use crate::{
    Connection, Error, Page, PageRequest,
    registry::page_of,
    wire::{failure, field, outcome, prediction_log, report, time, watch},
};

/// A client of the monitor; clones share the connection.
#[derive(Debug, Clone)]
pub struct Monitor(Connection);

impl Monitor {
    /// A client on a connection.
    pub fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// Sets the monitoring settings of a model over the expected revision (0: none have been set).
    pub async fn set_watch(
        &self,
        model: &ModelName,
        settings: &WatchSettings,
        expected_revision: u64,
    ) -> Result<Watch, Error> {
        let operation = "set the monitoring settings";
        let watch = Some(watch::settings_to_wire(model, settings));
        let request = proto::SetWatchRequest { watch, expected_revision };
        let call = || async { MonitorClient::new(self.0.stub()).set_watch(request.clone()).await };
        watch::stored(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// The monitoring settings of a model.
    pub async fn watch(&self, model: &ModelName) -> Result<Watch, Error> {
        let operation = "read the monitoring settings";
        let request = proto::GetWatchRequest { model: model.to_string() };
        let call = || async { MonitorClient::new(self.0.stub()).get_watch(request.clone()).await };
        watch::stored(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Restarts the windows of a model: the watermark is forgotten, and rows captured so far enter no further window. The call is made
    /// once.
    pub async fn reset_watch(&self, model: &ModelName) -> Result<CaptureStatus, Error> {
        let operation = "reset the monitoring";
        let request = proto::ResetWatchRequest { model: model.to_string() };
        let answer = self.0.call_once(operation, MonitorClient::new(self.0.stub()).reset_watch(request)).await?;
        prediction_log::status_from_wire(answer).map_err(Error::response(operation))
    }

    /// Reports outcomes, at most 10,000. With an empty key the call is made once.
    pub async fn report_outcomes(
        &self,
        model: &ModelName,
        outcomes: &[Outcome],
        idempotency_key: impl Into<String>,
    ) -> Result<AcceptedOutcomes, Error> {
        let operation = "report outcomes";
        let outcomes = outcomes.iter().map(outcome::to_wire).collect();
        let idempotency_key = idempotency_key.into();
        let request = proto::ReportOutcomesRequest { model: model.to_string(), outcomes, idempotency_key };
        let answer = if request.idempotency_key.is_empty() {
            self.0.call_once(operation, MonitorClient::new(self.0.stub()).report_outcomes(request)).await?
        } else {
            let call = || async { MonitorClient::new(self.0.stub()).report_outcomes(request.clone()).await };
            self.0.call(operation, call).await?
        };
        Ok(AcceptedOutcomes { accepted: answer.accepted, matched: answer.matched })
    }

    /// The reports of a model, newest first.
    pub async fn reports(&self, model: &ModelName, page: PageRequest) -> Result<Page<WindowReport>, Error> {
        let operation = "list the reports";
        let request =
            proto::ListReportsRequest { model: model.to_string(), page_size: page.size, page_token: page.token };
        let call = || async { MonitorClient::new(self.0.stub()).list_reports(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        page_of(operation, field::each("reports", answer.reports, report::from_wire), answer.next_page_token)
    }

    /// One logged row.
    pub async fn prediction(&self, id: PredictionId, row: u32) -> Result<LoggedPrediction, Error> {
        let operation = "read the prediction";
        let request = proto::GetPredictionRequest { prediction_id: id.to_string(), row };
        let call = || async { MonitorClient::new(self.0.stub()).get_prediction(request.clone()).await };
        prediction_log::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Logged rows of a model, newest first.
    pub async fn predictions(&self, model: &ModelName, page: PageRequest) -> Result<Page<LoggedPrediction>, Error> {
        let operation = "list the predictions";
        let request =
            proto::ListPredictionsRequest { model: model.to_string(), page_size: page.size, page_token: page.token };
        let call = || async { MonitorClient::new(self.0.stub()).list_predictions(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        let items = field::each("predictions", answer.predictions, prediction_log::from_wire);
        page_of(operation, items, answer.next_page_token)
    }

    /// Exports labelled rows.
    pub async fn export_labelled(&self, export: &ExportRequest) -> Result<LabelledExport, Error> {
        let operation = "export labelled rows";
        let request = prediction_log::export_to_wire(export);
        let call = || async { MonitorClient::new(self.0.stub()).export_labelled(request.clone()).await };
        prediction_log::exported_from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// The requests for a model that failed and were reported since a time, in the order of the reports.
    pub async fn failures(
        &self,
        model: &ModelName,
        since: Option<DateTime<Utc>>,
        page: PageRequest,
    ) -> Result<Page<FailedRequests>, Error> {
        let operation = "list the failed requests";
        let since = since.map(time::to_wire);
        let request = proto::ListFailuresRequest {
            model: model.to_string(),
            since,
            page_size: page.size,
            page_token: page.token,
        };
        let call = || async { MonitorClient::new(self.0.stub()).list_failures(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        page_of(operation, field::each("failures", answer.failures, failure::from_wire), answer.next_page_token)
    }

    /// The counters of the log of a model.
    pub async fn capture_status(&self, model: &ModelName) -> Result<CaptureStatus, Error> {
        let operation = "read the capture status";
        let request = proto::GetCaptureStatusRequest { model: model.to_string() };
        let call = || async { MonitorClient::new(self.0.stub()).get_capture_status(request.clone()).await };
        prediction_log::status_from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }
}

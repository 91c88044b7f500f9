//! Notices: what dekeys tells of itself, by list, stream and webhook.

mod budget;
mod list;
mod stream;
mod webhook;

use dekeys::client::Request;
use dekeys::client::events::{EventStream, Message};
use dekeys::client::{Client, KeyFile};
use serde_json::Value;

use dekeys::setup::server::Server;
use dekeys::setup::stage::{self, PRIM};

use crate::store::Database;
use crate::support::{TestApp, priced};

/// A request for events.
fn events() -> Request {
    Request::get(&["v1", "events"])
}

/// A client on which one answer may take as long as it likes.
async fn open(client: &Client, request: Request, last: Option<&str>) -> EventStream {
    client.events(request, last).await.unwrap()
}

/// The next message's event; fails when the stream ends first.
async fn next(stream: &mut EventStream) -> Value {
    let message = message(stream).await.expect("the stream goes on");
    let event: Value = serde_json::from_str(&message.data).unwrap();
    assert_eq!(event["id"], message.id.as_str());
    assert_eq!(event["type"], message.event.as_str());
    event
}

/// The next message, or the stream's end.
async fn message(stream: &mut EventStream) -> Option<Message> {
    tokio::time::timeout(std::time::Duration::from_mins(1), stream.next())
        .await
        .expect("something happens on the stream")
}

/// The next event of a type.
async fn next_of(stream: &mut EventStream, kind: &str) -> Value {
    loop {
        let event = next(stream).await;
        if event["type"] == kind {
            return event;
        }
    }
}

/// A second instance on the same PostgreSQL database; `None` where there is no server.
async fn two_instances() -> Option<(TestApp, Server, Database)> {
    let database = Database::create().await?;
    let url = database.url();
    let policy = priced("demo-readers", "echo:read", &[PRIM], "0.01");
    let app = TestApp::with(&policy, |config| config.database_url = url).await;
    let mut config = app.config.clone();
    config.data_dir = app.stage.data_dir.join("second");
    std::fs::create_dir(&config.data_dir).unwrap();
    let second = Server::start(&config).await.unwrap();
    dekeys::service::unseal::unseal(&second.app, app.unseal_key())
        .await
        .unwrap();
    Some((app, second, database))
}

fn client_of(url: &str, key: &KeyFile) -> Client {
    stage::client(url, Some(key)).unwrap()
}

//! SIGTERM: what is under way is answered, nothing new is taken, the exit code is 0.

use dekeys::client::{ClientError, Request};
use dekeys::mock::Fault;

use super::check;
use super::load::{Player, Seen};
use super::scene::Scene;
use super::server::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_under_way_are_answered_and_the_exit_code_is_0() {
    let (scene, mut server) = Scene::new().await;
    let seen = Seen::default();
    let slow = |op: &str| Fault {
        op: op.to_owned(),
        delay_ms: Some(500),
        count: Some(1),
        ..Fault::default()
    };
    let (buyer, prim) = (Player::new(&scene, &server, &seen), Player::new(&scene, &server, &seen));
    let Ok(payment) = prim.sign().await else {
        panic!("the server is gone")
    };
    let Ok(Some(grant)) = prim.buy(&payment).await else {
        panic!("not bought")
    };
    let Ok(Some(key)) = prim.resolve(&grant).await else {
        panic!("not resolved")
    };
    scene.vendor.fault(slow("create"));
    scene.vendor.fault(slow("revoke"));
    let Ok(payment) = buyer.sign().await else {
        panic!("the server is gone")
    };
    let buying = tokio::spawn(async move { buyer.buy(&payment).await });
    let ending = tokio::spawn(async move { prim.end_lease(&key).await });
    scene.vendor_is_asked().await;
    server.ask_to_stop();
    let late = server.client(None);
    until("the port to close", async || {
        let answer = late.send_any(&Request::get(&["readyz"])).await;
        matches!(answer, Err(ClientError::Unreachable(_))).then_some(())
    })
    .await;
    assert!(
        matches!(buying.await.unwrap(), Ok(Some(_))),
        "the purchase was not answered"
    );
    assert!(ending.await.unwrap().is_ok(), "the revocation was not answered");
    let status = server.ended().await;
    assert_eq!(status.code(), Some(0), "{}", server.tail());

    let server = scene.start().await;
    check::always(&scene, &server, &seen).await;
    assert_eq!(seen.lock().unwrap().dead.len(), 1);
    check::at_rest(&scene, &server).await;
    let recovered = check::events(&scene.operator(&server), "vault.recovered").await;
    assert!(recovered.is_empty(), "an orderly end left work behind: {recovered:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_server_stops_at_once_with_connections_open() {
    let (scene, mut server) = Scene::new().await;
    let client = server.client(None);
    // The connection stays open after the answer.
    assert!(client.send_any(&Request::get(&["healthz"])).await.is_ok());
    server.ask_to_stop();
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.tail());
    drop((scene, client));
}

//! `JSONTestSuite` on every route that reads JSON: what must be refused is refused with 400, whatever the route wants
//! otherwise, and nothing panics.

use dekeys::operations::operations;

use super::Sender;
use crate::skip::folder;
use crate::support::TestApp;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_json_is_refused_on_every_route() {
    let Some(vectors) = folder("DEKEYS_VECTORS", "JSONTestSuite") else {
        return;
    };
    let app = TestApp::start().await;
    let sender = Sender::new(&app);
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(vectors.join("json/JSONTestSuite/test_parsing")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_some_and(|end| end == "json") {
            cases.push((name, std::fs::read(path).unwrap()));
        }
    }
    cases.sort();
    assert!(cases.len() > 300, "only {} cases were found", cases.len());
    let (mut asked, mut wrong) = (0, Vec::new());
    let routes = operations().filter(|operation| operation.input.is_some());
    for operation in routes {
        for (name, body) in &cases {
            // A good body, or none, would seal the vault, and nothing more would be read.
            if operation.id == "seal" && (!name.starts_with("n_") || body.is_empty()) {
                continue;
            }
            let back = sender.send(&app, operation, body.clone()).await;
            asked += 1;
            // A request without a body has no JSON that could be broken.
            let must_fail = name.starts_with("n_") && !body.is_empty();
            let good = if must_fail {
                back.status == 400
            } else {
                back.status < 500 || back.status == 502
            };
            if !good {
                wrong.push(format!("{} {name}: {} {}", operation.id, back.status, back.code));
            }
        }
    }
    let seal = operations().find(|operation| operation.id == "seal").unwrap();
    let list = sender.send(&app, seal, b"[\"why\"]".to_vec()).await;
    assert_eq!(list.status, 422, "a list is not taken for fields in their order");
    assert!(asked > 3000, "only {asked} requests were made");
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    app.stop().await;
}

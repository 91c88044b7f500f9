//! A sign of life while something takes longer than 200 ms: on a terminal that can show it, and nowhere else.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Style;

/// What is shorter needs no sign.
const GRACE: Duration = Duration::from_millis(200);
const TICK: Duration = Duration::from_millis(80);

/// Waits for `work`; says `what` meanwhile. The sign is gone afterwards.
pub(crate) async fn watched<T>(style: Style, what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if !style.animated() {
        return work.await;
    }
    if let Ok(done) = tokio::time::timeout(GRACE, &mut work).await {
        return done;
    }
    let sign = sign(what);
    let done = work.await;
    sign.finish_and_clear();
    done
}

fn sign(what: &str) -> ProgressBar {
    let sign = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // The template is a constant; a mistake in it leaves the library's own.
    if let Ok(look) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        sign.set_style(look);
    }
    sign.set_message(super::output::visible(what));
    sign.enable_steady_tick(TICK);
    sign
}

//! How often one payer may have a grant: `limits.grants` of a policy, counted in the transaction that makes the grant.

use super::App;
use super::error::Error;
use super::offer::Deal;
use crate::model::grant::Grant;
use crate::store::Tx;

/// Takes one grant from what the policies of `deal` allow its principal and its wallet. The caller drops the transaction
/// when it is refused.
///
/// # Errors
/// [`Error::RateLimited`]; the store's.
pub(super) async fn take(app: &App, tx: &mut Tx, deal: &Deal, grant: &Grant) -> Result<(), Error> {
    for (policy, limit) in &deal.grants {
        for payer in grant.payers() {
            let name = format!("grants/{payer}/{policy}");
            if let Some(wait) = tx.take_rate(&name, *limit, app.now()).await? {
                return Err(Error::RateLimited(wait));
            }
        }
    }
    Ok(())
}

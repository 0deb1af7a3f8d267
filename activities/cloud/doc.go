// Package cloud is the provider contract: what Lifeboat asks of a place where
// servers can run, in the terms that real clouds use.
//
// A provider is one value that implements the capability interfaces it has
// (Servers, Disks, Snapshots, Images, Networks, Addresses, Names, Scripts,
// Ledger, …); callers ask for one with [As]. Rules that hold for every method:
//
//   - Calls whose work takes longer than a request are named Start…, return the
//     resource at once with its identifier and a pending [State], and are
//     followed by polling the describing call of the same resource. Anyone may
//     resume the waiting, since the identifier is all there is to know.
//   - Every creating call takes a Token. The same token with the same
//     parameters returns the same resource, also after a crash of the caller;
//     with other parameters it fails with [TokenMismatch]. Providers whose API
//     has no token find the resource by the tag [TagToken].
//   - Tags given to a creating call are on the resource from its first instant.
//   - A resource that was just created may be reported as [NotFound] for a
//     while, and a listing may not show it yet. Callers wait; they never create
//     again under another token.
//   - Deleting calls return nil when the deletion was triggered or was already
//     under way, and [NotFound] when nothing is there. Deleting what is still
//     used fails with [InUse].
//   - Listings are complete: a provider follows the pages itself.
//   - Every error is an *[Error] (or wraps one) and says by its [Class] what the
//     caller should do: retry, wait, give up or ask a person.
//   - All methods honour the context and may be called from several goroutines
//     and several processes at once.
package cloud

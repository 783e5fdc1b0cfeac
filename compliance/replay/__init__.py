"""Repeat the erasures of the ledger in a database that was restored from a backup.

DANGER: this erases people because of objects in a bucket. What keeps it right:

- only authentic objects of this service are used; any other is reported, and nothing of it is used;
- lines identify chatbots and variables by public ids, which no other one ever has; unknown ones are reported;
- a conversation is erased only if a line has its id, or if a line has its chatter and it was stored when the restore
  was noticed or began before the cutoff: later conversations of a chatter stay;
- rows, files and exports are erased, verified and completed by the steps of a deletion (`compliance.erasure.engine`),
  of the replayed requests alone: others wait, since they may have been withdrawn;
- each step finds its work in the data, so it can be killed at any time and run again.

    loading     the unknown objects, and which are refused; their lines, merged by request
                into LedgerLine; keys are revoked at once
    kinds       the decision on each kind of line, and its request, rewritten
    filing      lines page by page: their requests inserted, their conversations closed; open exports ended
    runner      claim the requests, erase, rebuild daily extracts
    report      findings and actions
    operation   all of it (`replay`), and lines that cannot be carried out, and the chatbots that they close
"""

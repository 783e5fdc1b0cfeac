"""Carry out what the ledger says once more, in a database that was restored from a backup.

DANGER: this erases people because of objects in a bucket. What keeps it right:

- only authentic objects of this service are believed; any other is named, and nothing of it is used;
- lines name chatbots and variables by public ids, which no other one ever has; what this database does not know is
  named;
- a conversation goes only if a line names it, by its id, or by its chatter and it was stored when the restore was
  noticed or began before the cutoff: a chatter who came back since is left alone;
- rows, files and exports are erased, verified and completed by the steps of a deletion (`compliance.erasure.engine`),
  of the replayed requests alone: others wait, since they may have been withdrawn;
- each step finds its work in the data, so it can be killed at any time and run again.

    loading     the objects that this database does not know, and which are refused; their lines, merged by request
                into LedgerLine; keys are revoked at once
    kinds       what becomes of each kind of line here, and its request, written again
    filing      lines page by page: their requests inserted, their conversations closed; open exports ended
    runner      claim the requests, erase, rebuild daily extracts
    report      what was found and done
    operation   all of it (`replay`), and lines that cannot be carried out, and the chatbots that they close
"""

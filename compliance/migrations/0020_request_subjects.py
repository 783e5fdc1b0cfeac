"""The conversations that a request names are rows of a table, and no array of the request.

One transaction, in which nobody else can use the requests: the former release needs the array, so its web server is
stopped, too.
"""

import django.db.models.deletion
import django.db.models.functions.comparison
from django.db import migrations, models

# Digests that were forgotten are removed soon.
STORED = "ALTER TABLE compliance_requestsubject SET (autovacuum_vacuum_scale_factor = 0.02)"

# The arrays are emptied: PostgreSQL leaves what a column had in its rows when it is dropped.
TO_ROWS = """
INSERT INTO compliance_requestsubject (request_id, chatbot_id, digest)
SELECT id, chatbot_id, unnest(conversation_digests)
  FROM compliance_compliancerequest WHERE conversation_digests IS NOT NULL ORDER BY seq;
UPDATE compliance_compliancerequest
   SET named_conversations = cardinality(conversation_digests), conversation_digests = NULL
 WHERE conversation_digests IS NOT NULL;
"""
TO_ARRAYS = """
UPDATE compliance_compliancerequest r
   SET conversation_digests = ARRAY(SELECT digest FROM compliance_requestsubject WHERE request_id = r.id)
 WHERE named_conversations IS NOT NULL;
"""


class Migration(migrations.Migration):
    dependencies = [("compliance", "0019_last_copies"), ("chatbots", "0010_after_a_restore")]

    operations = [
        migrations.CreateModel(
            name="RequestSubject",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.BinaryField(max_length=32)),
                (
                    "chatbot",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="chatbots.chatbot",
                    ),
                ),
                (
                    "request",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="subjects",
                        to="compliance.compliancerequest",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["request"], name="requestsubject_request"),
                    models.Index(fields=["digest"], name="requestsubject_digest"),
                ]
            },
        ),
        # It goes with its table.
        migrations.RunSQL(STORED, migrations.RunSQL.noop),
        migrations.AddField(
            model_name="compliancerequest",
            name="named_conversations",
            field=models.SmallIntegerField(
                help_text="How many conversations it names: 1 to 100. Null for others, and once these are forgotten.",
                null=True,
            ),
        ),
        migrations.RemoveConstraint(
            model_name="compliancerequest",
            name="request_has_one_selector",
        ),
        migrations.RemoveConstraint(
            model_name="compliancerequest",
            name="request_names_some_conversations",
        ),
        migrations.RemoveConstraint(
            model_name="compliancerequest",
            name="request_retention_names_nobody",
        ),
        migrations.RemoveConstraint(
            model_name="compliancerequest",
            name="request_redaction_names_nobody",
        ),
        migrations.RemoveConstraint(
            model_name="compliancerequest",
            name="request_open_names_somebody",
        ),
        migrations.RemoveIndex(
            model_name="compliancerequest",
            name="request_of_conversations",
        ),
        migrations.RemoveIndex(
            model_name="compliancerequest",
            name="request_by_ids_open",
        ),
        migrations.RemoveIndex(
            model_name="compliancerequest",
            name="request_by_ids_kept",
        ),
        migrations.RemoveIndex(
            model_name="compliancerequest",
            name="request_reference_kept",
        ),
        migrations.RunSQL(TO_ROWS, TO_ARRAYS),
        migrations.RemoveField(
            model_name="compliancerequest",
            name="conversation_digests",
        ),
        migrations.AddIndex(
            model_name="compliancerequest",
            index=models.Index(
                condition=models.Q(
                    ("named_conversations__isnull", False),
                    ("status__in", ["accepted", "on_hold", "processing", "failed"]),
                ),
                fields=["chatbot", "seq"],
                name="request_by_ids_open",
            ),
        ),
        migrations.AddIndex(
            model_name="compliancerequest",
            index=models.Index(
                django.db.models.functions.comparison.Coalesce(
                    "completed_at", "cancelled_at", "rejected_at", "failed_at"
                ),
                condition=models.Q(("chatbot__gt", 0), ("named_conversations__isnull", False)),
                name="request_by_ids_kept",
            ),
        ),
        migrations.AddIndex(
            model_name="compliancerequest",
            index=models.Index(
                django.db.models.functions.comparison.Coalesce(
                    "completed_at", "cancelled_at", "rejected_at", "failed_at"
                ),
                condition=models.Q(
                    models.Q(("reference", ""), _negated=True),
                    models.Q(
                        ("completed_at__isnull", False),
                        ("cancelled_at__isnull", False),
                        ("rejected_at__isnull", False),
                        models.Q(("named_conversations__isnull", True), ("uci_digest__isnull", True)),
                        _connector="OR",
                    ),
                ),
                name="request_reference_kept",
            ),
        ),
        migrations.AddConstraint(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("named_conversations__isnull", True), ("variable__isnull", False)),
                    models.Q(("uci_digest__isnull", True), ("uci_value__isnull", True), ("variable__isnull", True)),
                    _connector="OR",
                ),
                name="request_has_one_selector",
            ),
        ),
        migrations.AddConstraint(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "retention"), _negated=True),
                    models.Q(("named_conversations__isnull", True), ("variable__isnull", True)),
                    _connector="OR",
                ),
                name="request_retention_names_nobody",
            ),
        ),
        migrations.AddConstraint(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "redaction"), _negated=True),
                    models.Q(("named_conversations__isnull", True), ("variable__isnull", True)),
                    _connector="OR",
                ),
                name="request_redaction_names_nobody",
            ),
        ),
        migrations.AddConstraint(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("status__in", ["accepted", "on_hold", "processing"]), _negated=True),
                    models.Q(("uci_digest__isnull", False), ("uci_value__isnull", False)),
                    ("named_conversations__isnull", False),
                    ("kind__in", ["retention", "redaction"]),
                    models.Q(("origin", "replay"), ("uci_digest__isnull", False)),
                    _connector="OR",
                ),
                name="request_open_names_somebody",
            ),
        ),
        migrations.AddConstraint(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=models.Q(("named_conversations__range", (1, 100))), name="request_names_some_conversations"
            ),
        ),
    ]

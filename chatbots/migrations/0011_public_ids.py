"""Ids that outlive a restored backup, and the fingerprint of DIGEST_KEY. ADR 0027 says why.

Digests that are stored already were made with other scopes and cannot be made anew, so the tables must be empty.
"""

import uuid_utils.compat
from django.apps.registry import Apps
from django.core.management.base import CommandError
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models.functions import Now

KEEP_PUBLIC_ID = """
CREATE FUNCTION chatbots_keep_public_id() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a public id never changes' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER chatbot_keep_public_id BEFORE UPDATE ON chatbots_chatbot
    FOR EACH ROW WHEN (OLD.public_id IS DISTINCT FROM NEW.public_id) EXECUTE FUNCTION chatbots_keep_public_id();
CREATE TRIGGER variable_keep_public_id BEFORE UPDATE ON chatbots_variable
    FOR EACH ROW WHEN (OLD.public_id IS DISTINCT FROM NEW.public_id) EXECUTE FUNCTION chatbots_keep_public_id();
"""


def refuse_filled(apps: Apps, _: BaseDatabaseSchemaEditor) -> None:
    if apps.get_model("chatbots", "Chatbot").objects.exists():
        raise CommandError(
            "This database was filled before version 0.1.0, with digests of another form. Begin with an empty one (a "
            "development copy: remove var/)."
        )


class Migration(migrations.Migration):
    dependencies = [("chatbots", "0010_rare_events")]

    operations = [
        migrations.RunPython(refuse_filled, migrations.RunPython.noop),
        *(
            migrations.AddField(
                model_name=model,
                name="public_id",
                field=models.UUIDField(
                    default=uuid_utils.compat.uuid7,
                    editable=False,
                    help_text="Digests and the erasure ledger name it by this.",
                    unique=True,
                ),
            )
            for model in ("chatbot", "variable")
        ),
        migrations.RunSQL(
            KEEP_PUBLIC_ID,
            "DROP TRIGGER chatbot_keep_public_id ON chatbots_chatbot;"
            "DROP TRIGGER variable_keep_public_id ON chatbots_variable;"
            "DROP FUNCTION chatbots_keep_public_id();",
        ),
        migrations.CreateModel(
            name="DigestKey",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("fingerprint", models.BinaryField(max_length=32)),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="digestkey_one_row")]
            },
        ),
    ]

"""What exports leave out, and how the identities came by which requests found conversations.

The default rewrites nothing, and is what workers of an older version leave. Without a check constraint, for which
PostgreSQL would read the table while nobody can use it.
"""

from django.db import migrations, models


def _count(name: str, help_text: str = "") -> migrations.AddField:
    field = models.IntegerField(db_default=0, default=0, help_text=help_text)
    return migrations.AddField(model_name="compliancerequest", name=name, field=field)


class Migration(migrations.Migration):
    dependencies = [("compliance", "0007_validate_redactions")]

    operations = [
        _count(
            "unverified_left_out",
            "Conversations that an export left out: their chatter's identity was weaker than the chatbot demands.",
        ),
        _count("assurance_user_channel"),
        _count("assurance_platform"),
        _count("assurance_verified"),
    ]

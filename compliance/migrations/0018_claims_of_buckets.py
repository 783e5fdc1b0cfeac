"""A claim says whose bucket it may call, and a bucket has one claim at a time."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("chatbots", "0014_storage_state"), ("compliance", "0017_what_became_of_clusters")]

    operations = [
        migrations.AddField(
            model_name="claim",
            name="bucket_of",
            field=models.ForeignKey(
                db_index=False,
                help_text="The chatbot whose own bucket it may call; the others call the hosted one alone.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="chatbots.chatbot",
            ),
        ),
        migrations.AddConstraint(
            model_name="claim",
            constraint=models.UniqueConstraint(fields=("bucket_of",), name="claim_one_per_bucket"),
        ),
    ]

"""Exports say in whose bucket they lie, and what lies beside them; requests count extracts."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0004_client_buckets"),
        ("compliance", "0004_storage"),
    ]

    operations = [
        migrations.CreateModel(
            name="ExportFile",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "file_id",
                    models.BigIntegerField(
                        help_text="The uploaded file's number, as in the CSV; no database constraint."
                    ),
                ),
                (
                    "key",
                    models.CharField(
                        help_text="In the export's bucket; it may bear the chatter's value.", max_length=1024
                    ),
                ),
                ("bytes", models.BigIntegerField(null=True)),
                ("sha256", models.CharField(help_text="Lower-case hex.", max_length=64, null=True)),
            ],
        ),
        migrations.AddField(
            model_name="compliancerequest",
            name="extracts",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="compliancerequest",
            name="include_files",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="export",
            name="bucket",
            field=models.CharField(blank=True, default="", help_text="The name of a client's bucket.", max_length=63),
        ),
        migrations.AddField(
            model_name="export",
            name="endpoint",
            field=models.CharField(
                blank=True, default="", help_text="Of that bucket; empty for AWS.", max_length=200
            ),
        ),
        migrations.AddField(
            model_name="export",
            name="left_by",
            field=models.UUIDField(
                help_text="The deletion that left the object where it is, and names it in its status.", null=True
            ),
        ),
        migrations.AlterField(
            model_name="export",
            name="hosting",
            field=models.CharField(default="hosted", help_text="Where the file lies, as in Bucket.", max_length=8),
        ),
        migrations.AddIndex(
            model_name="export",
            index=models.Index(
                condition=models.Q(("left_by__isnull", False)), fields=["left_by"], name="export_left"
            ),
        ),
        migrations.AddField(
            model_name="exportfile",
            name="chatbot",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="chatbots.chatbot"
            ),
        ),
        migrations.AddField(
            model_name="exportfile",
            name="export",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="copies",
                to="compliance.export",
            ),
        ),
        migrations.AddConstraint(
            model_name="exportfile",
            constraint=models.UniqueConstraint(fields=("export", "key"), name="exportfile_once"),
        ),
        migrations.AddIndex(
            model_name="exportfile",
            index=models.Index(fields=["key"], name="exportfile_key"),
        ),
    ]

"""A chatbot's bucket can be the client's own, called with an access key or by a role."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0003_storage"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="bucket",
            name="bucket_hosting_known",
        ),
        migrations.AddField(
            model_name="bucket",
            name="access_key_id",
            field=models.CharField(blank=True, default="", max_length=128),
        ),
        migrations.AddField(
            model_name="bucket",
            name="bucket",
            field=models.CharField(blank=True, default="", max_length=63),
        ),
        migrations.AddField(
            model_name="bucket",
            name="endpoint",
            field=models.CharField(blank=True, default="", help_text="Empty for AWS.", max_length=200),
        ),
        migrations.AddField(
            model_name="bucket",
            name="external_id",
            field=models.CharField(blank=True, default="", help_text="The role's trust names it.", max_length=64),
        ),
        migrations.AddField(
            model_name="bucket",
            name="kms_key_id",
            field=models.CharField(blank=True, default="", max_length=2048),
        ),
        migrations.AddField(
            model_name="bucket",
            name="last_checked_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="bucket",
            name="last_error",
            field=models.CharField(blank=True, default="", help_text="Code and detail, ours.", max_length=500),
        ),
        migrations.AddField(
            model_name="bucket",
            name="prefix",
            field=models.CharField(blank=True, default="", help_text="Empty, or ends in /.", max_length=200),
        ),
        migrations.AddField(
            model_name="bucket",
            name="region",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AddField(
            model_name="bucket",
            name="role_arn",
            field=models.CharField(blank=True, default="", max_length=2048),
        ),
        migrations.AddField(
            model_name="bucket",
            name="secret_encrypted",
            field=models.TextField(blank=True, default="", help_text="Of the access key; never shown again."),
        ),
        migrations.AddField(
            model_name="bucket",
            name="sse",
            field=models.CharField(
                blank=True,
                choices=[
                    ("", "As the bucket is set to"),
                    ("AES256", "With keys of S3"),
                    ("aws:kms", "With a KMS key"),
                ],
                default="",
                max_length=8,
            ),
        ),
        migrations.AlterField(
            model_name="bucket",
            name="hosting",
            field=models.CharField(
                choices=[
                    ("hosted", "The operator's bucket, below the chatbot's slug"),
                    ("client", "The client's own bucket"),
                ],
                default="hosted",
                max_length=8,
            ),
        ),
        migrations.AddConstraint(
            model_name="bucket",
            constraint=models.CheckConstraint(
                condition=models.Q(("hosting__in", ["hosted", "client"])), name="bucket_hosting_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="bucket",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("access_key_id", ""),
                        ("bucket", ""),
                        ("endpoint", ""),
                        ("external_id", ""),
                        ("hosting", "hosted"),
                        ("kms_key_id", ""),
                        ("prefix", ""),
                        ("region", ""),
                        ("role_arn", ""),
                        ("secret_encrypted", ""),
                        ("sse", ""),
                    ),
                    models.Q(
                        ("hosting", "client"),
                        models.Q(("bucket", ""), _negated=True),
                        models.Q(("region", ""), _negated=True),
                        models.Q(
                            models.Q(
                                ("external_id", ""),
                                ("role_arn", ""),
                                models.Q(("access_key_id", ""), _negated=True),
                                models.Q(("secret_encrypted", ""), _negated=True),
                            ),
                            models.Q(
                                ("access_key_id", ""),
                                ("secret_encrypted", ""),
                                models.Q(("role_arn", ""), _negated=True),
                                models.Q(("external_id", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                    ),
                    _connector="OR",
                ),
                name="bucket_settings_fit_hosting",
            ),
        ),
        migrations.AddConstraint(
            model_name="bucket",
            constraint=models.UniqueConstraint(
                condition=models.Q(("hosting", "client")),
                fields=("bucket", "endpoint", "prefix"),
                name="bucket_place_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="bucket",
            constraint=models.CheckConstraint(
                condition=models.Q(("prefix", ""), ("prefix__endswith", "/"), _connector="OR"),
                name="bucket_prefix_is_folder",
            ),
        ),
        migrations.AddConstraint(
            model_name="bucket",
            constraint=models.CheckConstraint(
                condition=models.Q(("sse__in", ["", "AES256", "aws:kms"])), name="bucket_sse_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="bucket",
            constraint=models.CheckConstraint(
                condition=models.Q(("kms_key_id", ""), ("sse", "aws:kms"), _connector="OR"),
                name="bucket_kms_key_fits_sse",
            ),
        ),
    ]

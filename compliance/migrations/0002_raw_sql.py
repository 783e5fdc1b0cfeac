"""What Django has no operation for: triggers, a function, a composite foreign key, how requests are stored, statistics.

Where the figures come from: docs/explanation/table-storage.md.
"""

from django.db import migrations

# In the transaction that files, withdraws, revokes, or changes a hold, whichever statement does so. Retention runs are filed by the
# service itself, which files them again.
TRIGGERS = """
CREATE FUNCTION compliance_journal_accepted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO compliance_journalentry (kind, request_id, at)
    SELECT 'accepted', id, clock_timestamp() FROM filed WHERE kind <> 'retention' ORDER BY seq;
    RETURN NULL;
END $$;
CREATE TRIGGER request_journal_accepted AFTER INSERT ON compliance_compliancerequest
    REFERENCING NEW TABLE AS filed FOR EACH STATEMENT EXECUTE FUNCTION compliance_journal_accepted();

CREATE FUNCTION compliance_journal_withdrawn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO compliance_journalentry (kind, request_id, at) VALUES ('withdrawn', NEW.id, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER request_journal_withdrawn AFTER UPDATE ON compliance_compliancerequest
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status IN ('cancelled', 'rejected'))
    EXECUTE FUNCTION compliance_journal_withdrawn();

CREATE FUNCTION compliance_journal_key_revoked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO compliance_journalentry (kind, key_prefix, at) VALUES ('key_revoked', NEW.prefix, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER apikey_journal_revoked AFTER UPDATE ON chatbots_apikey
    FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL)
    EXECUTE FUNCTION compliance_journal_key_revoked();

CREATE FUNCTION compliance_journal_hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO compliance_journalentry (kind, request_id, at) VALUES ('hold', NEW.id, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER hold_journal_placed AFTER INSERT ON compliance_legalhold
    FOR EACH ROW EXECUTE FUNCTION compliance_journal_hold();
CREATE TRIGGER hold_journal_changed AFTER UPDATE ON compliance_legalhold
    FOR EACH ROW WHEN (OLD.review_at <> NEW.review_at OR OLD.released_at IS DISTINCT FROM NEW.released_at)
    EXECUTE FUNCTION compliance_journal_hold();
"""

# A function, since planning the same as an expression took longer than the rest of a filing's statement. Its rules are
# described in `compliance/deadlines.py`.
#
# The end of a day is its 23:59:59, and one second before the next one begins. Where clocks change at midnight, one of
# the two is an hour too late: the day has no 23:59:59, or the next one has two beginnings.
DUE_AT = """
CREATE FUNCTION compliance_due_at(asked_at timestamptz, zone text, rule text, is_extended boolean)
RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
    times int := CASE WHEN is_extended THEN 2 ELSE 1 END;
    day date;
    -- PostgreSQL takes these names for abbreviations without summer time, Python's for places.
    place text := CASE zone WHEN 'CET' THEN 'Europe/Brussels' WHEN 'MET' THEN 'Europe/Brussels'
                            WHEN 'EET' THEN 'Europe/Athens' WHEN 'WET' THEN 'Europe/Lisbon' ELSE zone END;
BEGIN
    day := (asked_at AT TIME ZONE place)::date
           + CASE rule WHEN 'gdpr' THEN make_interval(months => CASE WHEN is_extended THEN 3 ELSE 1 END)
                       WHEN 'ccpa' THEN make_interval(days => times * 45)
                       ELSE make_interval(days => times * rule::int) END;
    IF rule = 'gdpr' AND extract(isodow FROM day) > 5 THEN
        day := day + 8 - extract(isodow FROM day)::int;
    END IF;
    RETURN least((day + time '23:59:59') AT TIME ZONE place,
                 (day + 1)::timestamp AT TIME ZONE place - interval '1 second');
EXCEPTION WHEN invalid_parameter_value THEN
    -- PostgreSQL has time zones of its own. One that it does not know must stop no filing.
    RETURN compliance_due_at(asked_at, 'UTC', rule, is_extended);
END $$;
"""

VARIABLE_OF_CHATBOT = """
ALTER TABLE compliance_compliancerequest ADD CONSTRAINT request_variable_of_chatbot
    FOREIGN KEY (chatbot_id, variable_id) REFERENCES chatbots_variable (chatbot_id, id);
"""

# No fill factor: of a request's four updates three change its status or claim, which indexes name, and so can never
# be done in place; more room on the pages gained no time that could be measured.
REQUEST = """
ALTER TABLE compliance_compliancerequest SET (
    -- A request leaves four dead versions behind. Requests stay for good, so at the default of a fifth the dead of a
    -- day's ten thousand would wait for months beside a million of old ones.
    autovacuum_vacuum_scale_factor = 0.02,
    -- How many are open, and how many done, decides the plans of claims and sweeps.
    autovacuum_analyze_scale_factor = 0.02
);
"""

# Digests that were forgotten are removed soon.
SUBJECT = "ALTER TABLE compliance_requestsubject SET (autovacuum_vacuum_scale_factor = 0.02);"

# PostgreSQL does not count whose rows a table has, by columns that name a chatbot or a variable of one. With such a
# count, a chatbot that is newer than the last ANALYZE has no rows for the planner, which then goes through all of them.
# Without one, each is taken for a two-hundredth of the table, and rows are found by what names few of them.
UNCOUNTED = """
DO $$
DECLARE
    each record;
BEGIN
    FOR each IN
        SELECT c.conrelid::regclass AS name, a.attname
          FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
         WHERE c.contype = 'f' AND c.confrelid IN ('chatbots_chatbot'::regclass, 'chatbots_variable'::regclass)
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', each.name, each.attname);
    END LOOP;
END
$$;
-- It has no foreign key.
ALTER TABLE compliance_legalhold ALTER COLUMN variable_id SET STATISTICS 0;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("compliance", "0001_schema"),
        ("chatbots", "0002_raw_sql"),
        ("conversations", "0002_raw_sql"),
    ]

    operations = [
        migrations.RunSQL(sql) for sql in (TRIGGERS, DUE_AT, VARIABLE_OF_CHATBOT, REQUEST, SUBJECT, UNCOUNTED)
    ]

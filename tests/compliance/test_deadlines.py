"""When a request is due: a table that was worked out by hand, with a calendar."""

from datetime import datetime

import pytest
from django.db import connection

from compliance.deadlines import due_at_sql

# When the person asked, the chatbot's zone and rule, the deadline, and the extended one. Each is the last second of
# its day: where it is not 23:59:59, the clocks skip that.
CASES = """
# gdpr, at the ends of months. A Saturday or Sunday moves to Monday.
2026-01-31T10:00Z    Europe/Paris gdpr  2026-03-02T23:59:59+01:00 2026-04-30T23:59:59+02:00
2026-01-30T10:00Z    Europe/Paris gdpr  2026-03-02T23:59:59+01:00 2026-04-30T23:59:59+02:00
2026-01-28T10:00Z    Europe/Paris gdpr  2026-03-02T23:59:59+01:00 2026-04-28T23:59:59+02:00
2026-01-27T10:00Z    Europe/Paris gdpr  2026-02-27T23:59:59+01:00 2026-04-27T23:59:59+02:00
2026-03-31T10:00Z    Europe/Paris gdpr  2026-04-30T23:59:59+02:00 2026-06-30T23:59:59+02:00
2026-05-31T10:00Z    Europe/Paris gdpr  2026-06-30T23:59:59+02:00 2026-08-31T23:59:59+02:00
2026-08-31T10:00Z    Europe/Paris gdpr  2026-09-30T23:59:59+02:00 2026-11-30T23:59:59+01:00
2026-10-31T10:00Z    Europe/Paris gdpr  2026-11-30T23:59:59+01:00 2027-02-01T23:59:59+01:00
2026-12-31T10:00Z    Europe/Paris gdpr  2027-02-01T23:59:59+01:00 2027-03-31T23:59:59+02:00
2026-11-30T10:00Z    Europe/Paris gdpr  2026-12-30T23:59:59+01:00 2027-03-01T23:59:59+01:00
# Names that PostgreSQL takes for abbreviations without summer time.
2026-02-12T22:30Z    CET          45    2026-03-29T23:59:59+02:00 2026-05-13T23:59:59+02:00
2026-06-15T21:30Z    EET          30    2026-07-16T23:59:59+03:00 2026-08-15T23:59:59+03:00
2026-06-15T22:30Z    WET          30    2026-07-15T23:59:59+01:00 2026-08-14T23:59:59+01:00
# A holiday is not known.
2026-12-01T10:00Z    Europe/Paris gdpr  2027-01-01T23:59:59+01:00 2027-03-01T23:59:59+01:00
# In leap years and beside them.
2024-01-31T10:00Z    Europe/Paris gdpr  2024-02-29T23:59:59+01:00 2024-04-30T23:59:59+02:00
2024-01-29T10:00Z    Europe/Paris gdpr  2024-02-29T23:59:59+01:00 2024-04-29T23:59:59+02:00
2023-11-30T10:00Z    Europe/Paris gdpr  2024-01-01T23:59:59+01:00 2024-02-29T23:59:59+01:00
2024-02-29T10:00Z    Europe/Paris gdpr  2024-03-29T23:59:59+01:00 2024-05-29T23:59:59+02:00
2027-01-31T10:00Z    Europe/Paris gdpr  2027-03-01T23:59:59+01:00 2027-04-30T23:59:59+02:00
2028-01-30T10:00Z    Europe/Paris gdpr  2028-02-29T23:59:59+01:00 2028-05-01T23:59:59+02:00
2027-11-30T10:00Z    Europe/Paris gdpr  2027-12-30T23:59:59+01:00 2028-02-29T23:59:59+01:00
# Friday, Saturday, Sunday, Monday. An extension counts from the start, not from the day that was moved.
2026-06-03T10:00Z    Europe/Paris gdpr  2026-07-03T23:59:59+02:00 2026-09-03T23:59:59+02:00
2026-06-04T10:00Z    Europe/Paris gdpr  2026-07-06T23:59:59+02:00 2026-09-04T23:59:59+02:00
2026-06-05T10:00Z    Europe/Paris gdpr  2026-07-06T23:59:59+02:00 2026-09-07T23:59:59+02:00
2026-06-06T10:00Z    Europe/Paris gdpr  2026-07-06T23:59:59+02:00 2026-09-07T23:59:59+02:00
2026-04-30T10:00Z    Europe/Paris gdpr  2026-06-01T23:59:59+02:00 2026-07-30T23:59:59+02:00
2026-07-31T10:00Z    Europe/Paris gdpr  2026-08-31T23:59:59+02:00 2026-11-02T23:59:59+01:00
# The day is that of the chatbot's zone.
2026-06-30T22:30Z    Europe/Paris gdpr  2026-08-03T23:59:59+02:00 2026-10-01T23:59:59+02:00
2026-06-30T21:59:59Z Europe/Paris gdpr  2026-07-30T23:59:59+02:00 2026-09-30T23:59:59+02:00
2026-06-30T22:30Z    America/New_York gdpr 2026-07-30T23:59:59-04:00 2026-09-30T23:59:59-04:00
2026-03-01T03:00Z    America/New_York gdpr 2026-03-30T23:59:59-04:00 2026-05-28T23:59:59-04:00
2026-03-31T15:30Z    Asia/Tokyo gdpr    2026-05-01T23:59:59+09:00 2026-07-01T23:59:59+09:00
2026-01-30T10:30Z    Pacific/Kiritimati gdpr 2026-03-02T23:59:59+14:00 2026-04-30T23:59:59+14:00
2026-02-01T10:30Z    Pacific/Pago_Pago gdpr 2026-03-02T23:59:59-11:00 2026-04-30T23:59:59-11:00
2026-05-14T18:15Z    Asia/Kathmandu gdpr 2026-06-15T23:59:59+05:45 2026-08-17T23:59:59+05:45
2026-05-14T18:14:59Z Asia/Kathmandu gdpr 2026-06-15T23:59:59+05:45 2026-08-14T23:59:59+05:45
2026-12-31T23:59:59Z UTC gdpr           2027-02-01T23:59:59+00:00 2027-03-31T23:59:59+00:00
# Clocks change on the day: at night, one hour before midnight, and at midnight in both directions.
2026-02-27T10:00Z    Europe/Paris 30    2026-03-29T23:59:59+02:00 2026-04-28T23:59:59+02:00
2026-09-25T10:00Z    Europe/Paris 30    2026-10-25T23:59:59+01:00 2026-11-24T23:59:59+01:00
2026-10-02T10:00Z    America/New_York 30 2026-11-01T23:59:59-05:00 2026-12-01T23:59:59-05:00
2026-02-06T10:00Z    America/New_York 30 2026-03-08T23:59:59-04:00 2026-04-07T23:59:59-04:00
2026-02-26T10:00Z    Asia/Beirut 30     2026-03-28T23:59:59+02:00 2026-04-27T23:59:59+03:00
2026-02-27T10:00Z    Asia/Beirut 30     2026-03-29T23:59:59+03:00 2026-04-28T23:59:59+03:00
2026-09-24T10:00Z    Asia/Beirut 30     2026-10-24T23:59:59+02:00 2026-11-23T23:59:59+02:00
2026-03-23T10:00Z    Africa/Cairo gdpr  2026-04-23T23:59:59+02:00 2026-06-23T23:59:59+03:00
2026-09-29T10:00Z    Africa/Cairo gdpr  2026-10-29T23:59:59+02:00 2026-12-29T23:59:59+02:00
2026-10-01T10:00Z    America/Havana 30  2026-10-31T23:59:59-04:00 2026-11-30T23:59:59-05:00
2026-10-02T10:00Z    America/Havana 30  2026-11-01T23:59:59-05:00 2026-12-01T23:59:59-05:00
2026-09-24T10:00Z    Atlantic/Azores 30 2026-10-24T23:59:59+00:00 2026-11-23T23:59:59-01:00
2026-02-26T10:00Z    Atlantic/Azores 30 2026-03-28T23:59:59-01:00 2026-04-27T23:59:59+00:00
2026-02-26T10:00Z    America/Nuuk 30    2026-03-28T22:59:59-02:00 2026-04-27T23:59:59-01:00
2026-09-24T10:00Z    America/Nuuk 30    2026-10-24T23:59:59-02:00 2026-11-23T23:59:59-02:00
2026-03-05T10:00Z    America/Santiago 30 2026-04-04T23:59:59-04:00 2026-05-04T23:59:59-04:00
2026-08-06T10:00Z    America/Santiago 30 2026-09-05T23:59:59-04:00 2026-10-05T23:59:59-03:00
2026-03-06T00:00Z    Australia/Lord_Howe gdpr 2026-04-06T23:59:59+10:30 2026-06-08T23:59:59+10:30
2026-09-30T14:00Z    Australia/Sydney gdpr 2026-11-02T23:59:59+11:00 2027-01-01T23:59:59+11:00
# ccpa, which moves past no weekend.
2026-01-01T12:00Z    America/Los_Angeles ccpa 2026-02-15T23:59:59-08:00 2026-04-01T23:59:59-07:00
2026-01-01T07:59:59Z America/Los_Angeles ccpa 2026-02-14T23:59:59-08:00 2026-03-31T23:59:59-07:00
2024-01-15T20:00Z    America/Los_Angeles ccpa 2024-02-29T23:59:59-08:00 2024-04-14T23:59:59-07:00
2026-09-17T20:00Z    America/Los_Angeles ccpa 2026-11-01T23:59:59-08:00 2026-12-16T23:59:59-08:00
2026-01-22T20:00Z    America/Los_Angeles ccpa 2026-03-08T23:59:59-07:00 2026-04-22T23:59:59-07:00
2026-11-16T20:00Z    America/Los_Angeles ccpa 2026-12-31T23:59:59-08:00 2027-02-14T23:59:59-08:00
# A number of days.
2026-12-31T22:59:59Z Europe/Paris 1     2027-01-01T23:59:59+01:00 2027-01-02T23:59:59+01:00
2024-02-29T10:00Z    UTC 365            2025-02-28T23:59:59+00:00 2026-02-28T23:59:59+00:00
2026-01-31T10:00Z    Europe/Paris 30    2026-03-02T23:59:59+01:00 2026-04-01T23:59:59+02:00
2026-06-25T10:00Z    Europe/Paris 10    2026-07-05T23:59:59+02:00 2026-07-15T23:59:59+02:00
"""
_COUNTED = ", ".join(
    due_at_sql(start="c.start", rule="c.rule", zone="c.zone", is_extended=is_extended)
    for is_extended in (False, True)
)


@pytest.mark.parametrize("case", [line for line in CASES.splitlines() if line and not line.startswith("#")])
def test_a_request_is_due_at_the_end_of_the_day_in_the_table(case: str) -> None:
    start, zone, rule, *expected = case.split()
    with connection.cursor() as cursor:
        values = "(VALUES (%s::timestamptz, %s, %s)) AS c(start, rule, zone)"
        cursor.execute(f"SELECT {_COUNTED} FROM {values}", [start, rule, zone])
        assert cursor.fetchone() == tuple(map(datetime.fromisoformat, expected))

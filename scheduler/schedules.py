"""The schedules of the sample ERP."""

from actors.dunning import send_dunning_mails
from actors.reports import daily_report, month_end_closing
from scheduler.declare import Schedule

SCHEDULES = [
    Schedule(
        "nightly_sales_report",
        actor=daily_report,
        cron="0 2 * * *",
        timezone="Europe/Berlin",
        missed="once",
        overlap="skip",
        tags=["reports"],
        description="What was invoiced yesterday",
    ),
    Schedule(
        "hourly_dunning",
        actor=send_dunning_mails,
        cron="0 * * * *",
        timezone="Europe/Berlin",
        missed="once",
        overlap="skip",
        jitter="5m",
        description="A mail for each invoice that is overdue, level by level",
    ),
    Schedule(
        "month_end_closing",
        actor=month_end_closing,
        cron="0 18 LW * *",
        timezone="Europe/Berlin",
        missed="once",
        overlap="queue",
        tags=["reports"],
        description="The closing report, in the evening of the month's last business day",
    ),
]

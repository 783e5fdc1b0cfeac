from django.core.management.commands import makemigrations

from common.autodetector import Autodetector


class Command(makemigrations.Command):
    autodetector = Autodetector

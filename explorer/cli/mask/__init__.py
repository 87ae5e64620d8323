"""`mask`: look into mask files, combine and scale them, and measure what one costs or does elsewhere."""

from __future__ import annotations

import typer

from explorer.cli.mask.combine import intersect, subtract, union, vote
from explorer.cli.mask.damage import mask_damage
from explorer.cli.mask.files import diff, show
from explorer.cli.mask.renew import renew
from explorer.cli.mask.reports import CombineReport, DiffReport, RenewReport, ScaleReport, ShowReport, TransferReport
from explorer.cli.mask.scale import scale
from explorer.cli.mask.transfer import transfer
from explorer.cli.reports import DamageReport, keys

mask_app = typer.Typer(help="Masks: look into files, combine them, measure them elsewhere.")
mask_app.command("show", epilog=keys(ShowReport))(show)
mask_app.command("diff", epilog=keys(DiffReport))(diff)
mask_app.command("union", epilog=keys(CombineReport))(union)
mask_app.command("intersect", epilog=keys(CombineReport))(intersect)
mask_app.command("vote", epilog=keys(CombineReport))(vote)
mask_app.command("scale", epilog=keys(ScaleReport))(scale)
mask_app.command("renew", epilog=keys(RenewReport))(renew)
mask_app.command("subtract", epilog=keys(CombineReport))(subtract)
mask_app.command("damage", epilog=keys(DamageReport))(mask_damage)
mask_app.command("transfer", epilog=keys(TransferReport))(transfer)

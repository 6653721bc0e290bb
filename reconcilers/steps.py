"""All steps, in the order of the graph (DESIGN, "The shape of a reconciler"): each after those that it needs."""

from __future__ import annotations

from typing import Any

from reconcilers.account import AccountReconciler
from reconcilers.backends import Backends
from reconcilers.components import ComponentsReconciler
from reconcilers.contract import Reconciler
from reconcilers.engine_access import EngineAccessReconciler
from reconcilers.front_door import FrontDoorReconciler
from reconcilers.gateway import GatewayReconciler
from reconcilers.machine import MachineReconciler
from reconcilers.machine_access import MachineAccessReconciler
from reconcilers.settings import SettingsReconciler
from reconcilers.sign_in_app import SignInAppReconciler
from reconcilers.sign_in_gate import SignInGateReconciler
from reconcilers.supervisor import SupervisorReconciler
from reconcilers.welcome import WelcomeReconciler


def all_steps(backends: Backends) -> tuple[Reconciler[Any], ...]:
    """One reconciler of each kind. They keep nothing between calls but the clients."""
    return (
        AccountReconciler(backends),
        EngineAccessReconciler(backends),
        MachineReconciler(backends),
        MachineAccessReconciler(backends),
        GatewayReconciler(backends),
        SignInAppReconciler(backends),
        SupervisorReconciler(backends),
        FrontDoorReconciler(backends),
        SettingsReconciler(backends),
        ComponentsReconciler(backends),
        SignInGateReconciler(backends),
        WelcomeReconciler(backends),
    )

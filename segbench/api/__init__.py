"""The contracts: what flows between the rooms, and what a plug-in must offer.

Everything here is a frozen record or a Protocol, and is imported from here, whichever of the
modules it is written in. Shapes are written ``(B, C, *spatial)``: B cases, C image channels, then
two or three spatial axes; K is the number of classes, background included. Images are float32 in
[0, 1]; eps is always a fraction of that range.
"""

from segbench.api.attack import (
    Attack,
    BringsBudgets,
    Context,
    FittedAttack,
    Labels,
    MinimumNorm,
    MovesPrompts,
    NamesLibraries,
    Plan,
    RunsAnother,
    Schedule,
    SeesFeatures,
    State,
    StatesGradients,
    StepAttack,
    Targeted,
    TransferAttack,
    WarpAttack,
    WeightedState,
    WholeAttack,
    WholeImage,
)
from segbench.api.data import Case, Dataset, Entry, Intensity, SaysNotes
from segbench.api.defence import Defence, Trainee
from segbench.api.marks import distrusted
from segbench.api.model import (
    BringsLoss,
    BringsPostprocess,
    BringsRandomness,
    BringsStages,
    BringsStandIn,
    MeetsCases,
    ModelFactory,
    Output,
)
from segbench.api.objective import Budget, BudgetKind, Feedback, Goal, Loss, Noise, Objective
from segbench.api.report import (
    RIVALS,
    TELLING,
    Picture,
    Report,
    Tables,
    TransferMatrix,
    best_points,
    csv_parts,
    csv_text,
)
from segbench.api.texts import plain

__all__ = [
    "RIVALS",
    "TELLING",
    "Attack",
    "BringsBudgets",
    "BringsLoss",
    "BringsPostprocess",
    "BringsRandomness",
    "BringsStages",
    "BringsStandIn",
    "Budget",
    "BudgetKind",
    "Case",
    "Context",
    "Dataset",
    "Defence",
    "Entry",
    "Feedback",
    "FittedAttack",
    "Goal",
    "Intensity",
    "Labels",
    "Loss",
    "MeetsCases",
    "MinimumNorm",
    "ModelFactory",
    "MovesPrompts",
    "NamesLibraries",
    "Noise",
    "Objective",
    "Output",
    "Picture",
    "Plan",
    "Report",
    "RunsAnother",
    "SaysNotes",
    "Schedule",
    "SeesFeatures",
    "State",
    "StatesGradients",
    "StepAttack",
    "Tables",
    "Targeted",
    "Trainee",
    "TransferAttack",
    "TransferMatrix",
    "WarpAttack",
    "WeightedState",
    "WholeAttack",
    "WholeImage",
    "best_points",
    "csv_parts",
    "csv_text",
    "distrusted",
    "plain",
]

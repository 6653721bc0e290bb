"""The components of this world and their services: most have one service of the same name."""

COMPONENTS = (
    "hero_proc",
    "hero_router",
    "hero_proxy",
    "hero_cockpit",
    "hero_db",
    "hero_indexer",
    "hero_agent",
    "hero_books",
    "hero_slides",
    "hero_whiteboard",
    "hero_planner",
    "hero_biz",
    "hero_memory",
    "hero_voice",
    "hero_collab",
    "hero_foundry",
    "hero_archipelagos",
    "hero_assistance",
    "hero_kimi",
    "hero_os",
    "hero_embedder",
    "hero_aibroker",
    "hero_office",
)
OWNER = "lhumina_code"
VERSIONS = ("v0.2.9", "v0.3.0", "v0.3.1")
"""Every component has a release for each, and the tag `latest`, whose title is the last of them."""

LAB_ASSET = "lab-linux-x86_64"
NEEDS_AI_KEY = frozenset({"hero_aibroker"})
AI_KEYS = ("OPENROUTER_API_KEY", "GROQ_API_KEY", "SAMBANOVA_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY")
SUPERVISOR = "hero_proc"
ROUTER = "hero_router"
PROXY = "hero_proxy"


def services_of(component: str) -> tuple[str, ...]:
    """The services that a component brings; the supervisor is none of its own."""
    return () if component == SUPERVISOR else (component,)

"""What one GPU holds at the moments of a phase that can be its largest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.planning.activations import (
    Held,
    apart_bytes,
    backward_bytes,
    decoding_bytes,
    forward_bytes,
    logits_bytes,
    probabilities_bytes,
    trunk_bytes,
)
from rlhf_trainer.planning.architecture import Architecture
from rlhf_trainer.planning.networks import Network, engines
from rlhf_trainer.planning.shapes import Decoding, Update
from rlhf_trainer.planning.sharding import Sharding


@dataclass(frozen=True)
class Components:
    """Bytes by what they are for."""

    weights: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    activations: float = 0.0
    kv_cache: float = 0.0
    logits: float = 0.0
    buffers: float = 0.0
    """Gathered weights, reductions, and what the optimiser computes with."""
    runtime: float = 0.0
    """What the driver and libraries take before any tensor."""

    @property
    def total(self) -> float:
        """All of them."""
        return sum(float(getattr(self, field.name)) for field in fields(self))

    def plus(self, **more: float) -> "Components":
        """Return these with more of some."""
        return replace(self, **{name: getattr(self, name) + value for name, value in more.items()})


@dataclass(frozen=True)
class Moment:
    """A point in a phase."""

    name: str
    held: Components


def at_rest(networks: Sequence[Network], sharding: Sharding, runtime: float) -> Components:
    """Return what is held between two steps."""
    held = Components(runtime=runtime)
    for network in networks:
        if not network.trained:
            held = held.plus(weights=sharding.width * network.parameters)
            continue
        on_gpu = not sharding.offload
        held = held.plus(
            weights=sharding.weights(
                network.parameters, network.architecture.small_parameters(sharding.persistent)
            ),
            optimizer=sharding.optimizer(network.trained) if on_gpu else 0,
            gradients=sharding.kept_gradients(network.trained) if on_gpu else 0,
            buffers=sharding.kept_bucket(network.trained),
        )
    return held


def loading(networks: Sequence[Network], sharding: Sharding, runtime: float) -> Iterator[Moment]:
    """Yield the moments at which a trained network is whole, and has not been sharded yet.

    It comes to the device whole, whatever the stage; ZeRO 2 copies it into one buffer, and
    ZeRO 3 into shards.
    """
    for index, network in enumerate(networks):
        if network.trained:
            before = at_rest(networks[:index], sharding, runtime)
            before = replace(before, optimizer=0.0)  # moments come with the first step
            whole = sharding.width * network.parameters
            copy = sharding.width * network.trained if sharding.stage else 0
            copies = sharding.share(copy) if sharding.stage > 2 else copy  # noqa: PLR2004 - the stage
            yield Moment(f"loading the {network.name}", before.plus(weights=whole, buffers=copies))


def updating(
    networks: Sequence[Network],
    sharding: Sharding,
    update: Update,
    runtime: float,
    *,
    settings: Sequence[ModelConfig],
) -> Iterator[Moment]:
    """Yield the moments of an update of each trained network.

    settings: of each of them, in their order.
    """
    rest = at_rest(networks, sharding, runtime)
    for network, model in zip(engines(networks), settings, strict=True):
        of, width = network.architecture, sharding.width
        gradients = width * network.trained
        kept = pass_bytes(network, update, held_as(model, of, width))
        logits = _logits(network, update, width)
        # While the loss is computed there are logits; after it, gradients of the last layer.
        after = 0 if logits else backward_bytes(of, update.tokens, width)
        gathered = sharding.gathered(network.parameters, of.small_parameters(sharding.persistent))
        largest = width * min(of.largest_parameter, network.trained)
        there = 0.0 if update.is_alone else gradients
        yield Moment(
            f"backward pass of the {network.name}",
            rest.plus(
                gradients=there + largest,
                activations=kept + after,
                logits=logits,
                buffers=gathered,
            ),
        )
        averaged = sharding.reduction_gradients(network.trained)
        read = sharding.step_gradients(network.trained)
        yield Moment(
            f"reduction of the {network.name}'s gradients",
            rest.plus(
                gradients=gradients + averaged,
                buffers=sharding.reduction_bucket(network.trained),
            ),
        )
        yield Moment(
            f"step of the {network.name}",
            rest.plus(
                gradients=0 if sharding.offload else read + averaged,
                buffers=sharding.step_buffers(network.trained),
            ),
        )


def pass_bytes(network: Network, update: Update, held: Held) -> float:
    """Return the most that the forward passes of a loss keep, up to the last hidden states."""
    trunk = trunk_bytes(network.architecture, update.tokens, update.read, held)
    if update.places is not None:
        trunk += apart_bytes(network.architecture, update.tokens, update.places, held)
    return network.forwards * trunk


def _logits(network: Network, update: Update, width: int) -> float:
    if not network.has_vocabulary:
        return 0
    of = network.architecture
    return logits_bytes(of, update.read, width, is_scaled=update.is_scaled)


def held_as(model: ModelConfig, of: Architecture, width: int) -> Held:
    """Return how a network with these settings is held when it is trained."""
    lora = model.lora
    return Held(
        width,
        recomputed=model.gradient_checkpointing,
        is_frozen=lora is not None,
        adapter_elements=of.adapter_elements(lora.rank, lora.target_modules) if lora else 0,
    )


def decoding(
    networks: Sequence[Network],
    decoder: Network,
    sharding: Sharding,
    batch: Decoding,
    runtime: float,
) -> Iterator[Moment]:
    """Yield the moments of a rollout: all prompts at once, and the last token."""
    of, width = decoder.architecture, sharding.width
    rest = at_rest(networks, sharding, runtime)
    rest = rest.plus(buffers=sharding.packed(of.packed_parameters(with_output=True)))
    if decoder.trained:
        rest = rest.plus(
            buffers=sharding.whole(decoder.parameters, of.small_parameters(sharding.persistent))
        )
    per_token = width * of.cache_elements_per_token
    tokens = batch.rows * batch.prompt
    yield Moment(
        "prompts of a rollout",
        rest.plus(kv_cache=tokens * per_token, activations=forward_bytes(of, tokens, width)),
    )
    # The last token is drawn, and read by nobody.
    cache = batch.rows * (batch.length - 1) * per_token
    yield Moment(
        "last token of a rollout",
        rest.plus(
            # One layer's keys at a time are there twice, as each token makes a longer copy.
            kv_cache=cache * (1 + 0.5 / of.layers),
            logits=decoding_bytes(of, batch.rows, width),
        ),
    )


def measuring(
    networks: Sequence[Network],
    sharding: Sharding,
    update: Update,
    runtime: float,
    *,
    settings: Sequence[ModelConfig],
) -> Iterator[Moment]:
    """Yield the moments at which a rollout is measured, one network after another.

    settings: of the trained ones, in their order. The last of those gives values, and its pass over
    the first micro-batch may be kept for the update.
    """
    rest, width = at_rest(networks, sharding, runtime), sharding.width
    valuing = engines(networks)[-1]
    kept = 0.0
    for network in networks:
        of, is_sharded = network.architecture, network.trained and sharding.is_gathered
        if network.name == "policy" and network is not valuing and network is not networks[0]:
            continue  # it has a reference beside it, and measures nothing
        if network is valuing and update.is_measured and not is_sharded:
            kept = pass_bytes(network, update, held_as(settings[-1], of, width))
            if network.has_vocabulary:
                kept += probabilities_bytes(of, update.read)
        small = of.small_parameters(sharding.persistent)
        packed = sharding.packed(of.packed_parameters(with_output=network.has_vocabulary))
        gathered = sharding.gathered(network.parameters, small)
        yield Moment(
            f"measuring with the {network.name}",
            rest.plus(
                activations=kept + forward_bytes(of, update.tokens, width),
                logits=0 if kept else _logits(network, update, width),
                buffers=gathered if is_sharded else packed,
            ),
        )

"""The training loop: steps, validation, checkpoints and saved states."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.parallel import DistributedDataParallel

from dhs import checkpoint
from dhs.data import LensDataset
from dhs.model.inference import logits_of
from dhs.train.augmentation import augment_batch
from dhs.train.batches import Batch, Batches
from dhs.train.config import TrainConfig
from dhs.train.losses import Losses
from dhs.train.processes import Processes
from dhs.train.records import describe, log_to_tensorboard, write_metrics
from dhs.train.sampler import BatchSampler
from dhs.train.schedule import learning_rate
from dhs.train.setup import check_classes, initial_model, micro_batches_per_step, precision
from dhs.train.state import STATE_FILE, Progress, load_state, micro_batch_seed, save_state
from dhs.train.validation import merit, validation_metrics

BEST, LAST = "best.safetensors", "last.safetensors"


class NonFiniteLossError(RuntimeError):
    """The loss is infinite or NaN."""


class Loop:
    """A loop over epochs of training and validation, which can resume an interrupted run.

    Parameters
    ----------
    config : TrainConfig
        Configuration of the training.
    group : Processes
        This process in the group that trains together.

    Attributes
    ----------
    data, validation : LensDataset
        Training and validation split.
    spec : PreprocessSpec
        Preprocessing of the model.
    model : LensFinder
        Model in training, on the device of this process.
    progress : Progress
        Progress of the training.
    warnings : list of str
        Doubts about the data.

    Raises
    ------
    ValueError
        The data do not fit the configuration, there are too few of them, or a split has cutouts of
        one class alone.
    """

    def __init__(self, config: TrainConfig, group: Processes) -> None:
        self.config, self.options, self.group = config, config.train, group
        self.out = Path(config.train.out_dir)
        self.seed = config.dataset.seed
        dataset = config.located_dataset()
        self.data = LensDataset(dataset, "train", config.both_splits())
        self.validation = LensDataset(dataset, "val", config.both_splits())
        self.warnings = check_classes(self.data, self.validation)
        self.augment = config.augment.config()
        self.sampler = BatchSampler(
            len(self.data),
            self.options.batch_size,
            seed=self.seed,
            rank=group.rank,
            world=group.world,
            labels=self.data.labels,
            balance=self.options.balance,
        )
        self.accumulated = micro_batches_per_step(self.options, group)
        self.steps = len(self.sampler) // self.accumulated
        if not self.steps:
            needed = self.accumulated * self.options.batch_size * group.world
            raise ValueError(
                f"the training split has {len(self.data)} cutouts, fewer than one effective "
                f"batch of {needed}; lower train.effective_batch or add cutouts."
            )
        self.spec, self.precision = config.dataset.spec(), precision(self.options, group)
        self.model = initial_model(config, self.data.size).to(group.device)
        self.scaler = torch.amp.GradScaler(
            group.device.type, enabled=self.precision == torch.float16
        )
        self._resident = self.data.resident(group.device) if dataset.resident else None
        self._moments: dict[str, Any] | None = None
        self._losses = Losses(group.device)
        self.progress = Progress()
        self.optimizer: torch.optim.Optimizer
        self.network: nn.Module

    def _what(self) -> dict[str, Any]:
        """Return everything that determines the trained weights bit for bit."""
        what = {
            "config": self.config.determining(),
            "data": self._data_record(),
            "processes": self.group.world,
            "device": self.group.device.type,
        }
        # States of an earlier recipe lack these keys, and must not be resumed.
        if self.options.warmup_epochs:
            what["warm_up_from_epoch"] = 1
        if left_out := self.options.options_left_out():
            what["options_left_out"] = left_out
        return what

    def _data_record(self) -> dict[str, Any]:
        return {
            "data_origin": self.data.data_origin,
            "mask_bits": str(self.data.mask_bits),
            "fingerprint": self.data.fingerprint,
            "validation_fingerprint": self.validation.fingerprint,
            "n_train": len(self.data),
            "n_validation": len(self.validation),
            "n_train_lenses": int(self.data.labels.sum()),
            "n_validation_lenses": int(self.validation.labels.sum()),
        }

    def run(self, report: Callable[[str], None], show: Callable[[int, int], None]) -> None:
        """Train to the end.

        Parameters
        ----------
        report : function
            Called with a line of text after every epoch.
        show : function
            Called after every step with the number of cutouts seen so far and in total.

        Raises
        ------
        NonFiniteLossError
            The training or validation loss is infinite or NaN. On a GPU the losses are read only
            every few steps; the steps after such a loss are discarded with it.
        OSError
            A file cannot be read or written.
        """
        self._start_phase()
        per_step = self.accumulated * self.options.batch_size * self.group.world
        total = self.options.epochs * self.steps * per_step

        def advance() -> None:
            done = (self.progress.epoch * self.steps + self.progress.step) * per_step
            show(done, total)

        while not self.progress.is_complete:
            if self._thaws_now():
                self._start_phase()
            started, seen = time.perf_counter(), (self.steps - self.progress.step) * per_step
            self._train_epoch(advance)
            rate = seen / (time.perf_counter() - started)
            line = self._validate() | {"cutouts_per_second": rate}
            self._end_epoch(line)
            report(describe(line, self.options.epochs))

    def resume(self) -> bool:
        """Load the saved state, if one exists, and return whether the training is complete.

        Raises
        ------
        ValueError
            The state is damaged or belongs to a different training.
        """
        path = self.out / STATE_FILE
        if not path.exists():
            return False
        self.progress, weights, moments = load_state(path, self._what())
        self.model.backbone.load_state_dict(weights)
        self._moments = moments
        self.scaler.load_state_dict(self.progress.scaler)
        threads = torch.get_num_threads()
        if self.group.device.type == "cpu" and self.progress.threads != threads:
            warnings.warn(
                f"{path} was written with {self.progress.threads} threads, but this run uses "
                f"{threads}: its results will differ in the last bits from an uninterrupted run.",
                stacklevel=3,
            )
        return self.progress.is_complete

    def _start_phase(self) -> None:
        """Choose the layers to train, and build a new optimiser for them."""
        backbone = self.model.backbone
        self.is_frozen = self.progress.epoch < self.options.freeze_backbone_epochs
        backbone.requires_grad_(not self.is_frozen)
        head = cast(Any, backbone).get_classifier()
        head.requires_grad_(True)
        learning = [value for value in backbone.parameters() if value.requires_grad]
        # Only a fused optimiser skips a step of infinite gradients without a read by the scaler.
        is_fused = True if self.scaler.is_enabled() else None
        self.optimizer = torch.optim.AdamW(
            learning, self.options.lr, weight_decay=self.options.weight_decay, fused=is_fused
        )
        moments, self._moments = self._moments, None
        if moments is not None and not self._thaws_now():
            for group in moments["param_groups"]:
                group["fused"] = is_fused
            self.optimizer.load_state_dict(moments)
        network = torch.compile(backbone) if self.options.compile else backbone
        if self.group.world > 1:
            network = DistributedDataParallel(network, broadcast_buffers=False)
        self.network = cast(nn.Module, network)

    def _thaws_now(self) -> bool:
        place = self.progress
        return place.step == 0 and 0 < place.epoch == self.options.freeze_backbone_epochs

    def _train_epoch(self, advance: Callable[[], None]) -> None:
        place, saved = self.progress, time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.options, place.epoch)
        self.model.train()
        if self.is_frozen:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        if place.step:
            self.sampler.load_state_dict(place.sampler)
        else:
            self.sampler.set_epoch(place.epoch)
        batches = Batches(
            self.data,
            self.sampler,
            device=self.group.device,
            augment=self.augment,
            seed=self.seed,
            resident=self._resident,
        )
        with closing(iter(batches)) as stream:
            while place.step < self.steps:
                self._step(stream)
                place.step += 1
                if self._losses.are_due:
                    self._read_losses()
                advance()
                is_due = time.perf_counter() - saved > 60 * self.options.save_every_minutes
                # Several processes have different batch-norm statistics until the epoch ends.
                if is_due and self.group.world == 1 and place.step < self.steps:
                    self._save_state()
                    saved = time.perf_counter()
            self._read_losses()

    def _step(self, stream: Iterator[Batch]) -> None:
        """Do one optimiser step, without waiting for the device."""
        self.optimizer.zero_grad(set_to_none=True)
        losses, seen = [], []
        for k in range(self.accumulated):
            batch = next(stream)
            number = (self.progress.step * self.accumulated + k) * self.group.world
            torch.manual_seed(
                micro_batch_seed(self.seed, self.progress.epoch, number + self.group.rank)
            )
            is_last = k == self.accumulated - 1
            with nullcontext() if is_last else self._apart():
                loss = self._loss(batch) / self.accumulated
                torch.autograd.backward(self.scaler.scale(loss))
            losses.append(loss.detach())
            seen.append(batch.positions)
        self._losses.add(self.progress.step, losses, seen)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _read_losses(self) -> None:
        """Add the losses of the steps since the last read to the sum of the epoch."""
        for step, values, seen in self._losses.read():
            self._require_finite(step, values, seen)
            self.progress.loss_sum += float(sum(values))

    def _apart(self) -> AbstractContextManager[None]:
        """Suspend the exchange of gradients between processes."""
        if isinstance(self.network, DistributedDataParallel):
            return self.network.no_sync()
        return nullcontext()

    def _loss(self, batch: Batch) -> Tensor:
        images = self.model.preprocess(
            batch.images, index=batch.index, dihedral=batch.dihedral, mask=batch.mask
        )
        if batch.dihedral is None:
            images = augment_batch(
                images,
                self.seed,
                batch.positions,
                self.progress.epoch,
                len(self.data),
                self.augment,
            )
        with torch.autocast(
            self.group.device.type, self.precision, enabled=self.precision is not None
        ):
            logits = self.network(images).squeeze(1)
        weights = None if self.options.unweighted_loss else batch.weights
        return binary_cross_entropy_with_logits(logits.float(), batch.labels, weights)

    def _require_finite(self, step: int, losses: list[float], seen: Sequence[Any]) -> None:
        for loss, positions in zip(losses, seen, strict=True):
            if not np.isfinite(loss):
                ids = ", ".join(str(self.data.ids[k]) for k in positions)
                raise NonFiniteLossError(
                    f"the loss is {loss} in epoch {self.progress.epoch + 1}, step "
                    f"{step + 1}, for the batch of {ids}. This step was "
                    "discarded; check these cutouts or lower train.lr."
                )

    def _validate(self) -> dict[str, Any]:
        group, place = self.group, self.progress
        group.average_running_statistics(self.model.backbone)
        mine = logits_of(
            self.model,
            self.validation,
            self.options.batch_size,
            group.device,
            rank=group.rank,
            world=group.world,
        )
        logits = group.total(torch.from_numpy(mine).to(group.device)).cpu()
        labels = torch.from_numpy(self.validation.labels)
        loss = group.total(torch.tensor([place.loss_sum], dtype=torch.float64, device=group.device))
        line: dict[str, Any] = {
            "epoch": place.epoch,
            "lr": learning_rate(self.options, place.epoch),
            "train_loss": loss.item() / (self.steps * group.world),
            "val_loss": float(binary_cross_entropy_with_logits(logits, labels)),
        }
        if not np.isfinite(line["val_loss"]):
            raise NonFiniteLossError(
                f"the validation loss is {line['val_loss']} after epoch {place.epoch + 1}; lower "
                "train.lr."
            )
        return line | validation_metrics(labels.numpy() == 1, logits.numpy())

    def _end_epoch(self, line: dict[str, Any]) -> None:
        place, patience = self.progress, self.options.early_stopping_patience
        best = place.history[place.best_epoch] if place.history else None
        place.history.append(line)
        is_best = best is None or merit(line) > merit(best)
        if is_best:
            place.best_epoch = place.epoch
        is_stopped = patience > 0 and place.epoch - place.best_epoch >= patience
        place.epoch, place.step, place.loss_sum = place.epoch + 1, 0, 0.0
        place.is_complete = is_stopped or place.epoch == self.options.epochs
        if self.group.is_first:
            if is_best:
                self._save_checkpoint(BEST, line)
            if place.is_complete:
                self._save_checkpoint(LAST, line)
            self._save_state()
            write_metrics(self.out, place.history)
            log_to_tensorboard(self.out, line)
        self.group.wait()

    def _save_checkpoint(self, name: str, line: dict[str, Any]) -> None:
        checkpoint.save(
            self.out / name,
            self.model,
            config=self.config.model_dump(mode="json"),
            metrics=line,
            data=self._data_record(),
        )

    def _save_state(self) -> None:
        self._read_losses()
        place = self.progress
        place.sampler, place.scaler = self.sampler.state_dict(), self.scaler.state_dict()
        place.threads = torch.get_num_threads()
        save_state(self.out / STATE_FILE, self.model.backbone, self.optimizer, place, self._what())

"""Figures of results, in plotly: one function per row of the Model Analysis Table; nothing is measured here.

`clamping` has those of trainings under clamps.
"""

from ih_lens.viz.across_models import plot_loss_token_derivative as plot_loss_token_derivative
from ih_lens.viz.across_models import plot_losses_across_context as plot_losses_across_context
from ih_lens.viz.attention_heads import attention_heads as attention_heads
from ih_lens.viz.behaviours import plot_behaviours as plot_behaviours
from ih_lens.viz.clamping import plot_condition_losses as plot_condition_losses
from ih_lens.viz.clamping import plot_dissociation as plot_dissociation
from ih_lens.viz.clamping import plot_learning_times as plot_learning_times
from ih_lens.viz.clamping import plot_losses_by_condition as plot_losses_by_condition
from ih_lens.viz.clamping import plot_toy_model as plot_toy_model
from ih_lens.viz.coloured_tokens import coloured_tokens as coloured_tokens
from ih_lens.viz.composition import plot_composition as plot_composition
from ih_lens.viz.composition import plot_composition_matrix as plot_composition_matrix
from ih_lens.viz.depth import plot_score_by_depth as plot_score_by_depth
from ih_lens.viz.export import save_figure as save_figure
from ih_lens.viz.head_map import plot_head_map as plot_head_map
from ih_lens.viz.heads import plot_before_and_after as plot_before_and_after
from ih_lens.viz.heads import plot_heads_by_depth as plot_heads_by_depth
from ih_lens.viz.heads import plot_heads_by_type as plot_heads_by_type
from ih_lens.viz.heads import plot_in_context_learning_attribution as plot_in_context_learning_attribution
from ih_lens.viz.heads import plot_prefix_matching as plot_prefix_matching
from ih_lens.viz.heads import plot_qk_eigenvalue_trace as plot_qk_eigenvalue_trace
from ih_lens.viz.heat_maps import plot_loss_by_context_index as plot_loss_by_context_index
from ih_lens.viz.heat_maps import plot_loss_derivative as plot_loss_derivative
from ih_lens.viz.induction_kinds import plot_induction_kinds as plot_induction_kinds
from ih_lens.viz.joint import plot_joint_scores as plot_joint_scores
from ih_lens.viz.local_html import LocalHTML as LocalHTML
from ih_lens.viz.loops import plot_loops as plot_loops
from ih_lens.viz.loops import plot_repetition_dominance as plot_repetition_dominance
from ih_lens.viz.loss_spikes import plot_loss_spikes as plot_loss_spikes
from ih_lens.viz.loss_split import plot_loss_split as plot_loss_split
from ih_lens.viz.mechanism import plot_head_partners as plot_head_partners
from ih_lens.viz.mechanism import plot_match_terms as plot_match_terms
from ih_lens.viz.mechanism import plot_score_terms as plot_score_terms
from ih_lens.viz.mosaic import plot_head_mosaic as plot_head_mosaic
from ih_lens.viz.sensitivity import plot_in_context_learning_by_early_index as plot_in_context_learning_by_early_index
from ih_lens.viz.sensitivity import plot_in_context_learning_sensitivity as plot_in_context_learning_sensitivity
from ih_lens.viz.series import plot_in_context_learning as plot_in_context_learning
from ih_lens.viz.series import plot_loss as plot_loss
from ih_lens.viz.series import plot_loss_divergence as plot_loss_divergence
from ih_lens.viz.token_losses import coloured_loss_differences as coloured_loss_differences
from ih_lens.viz.token_losses import plot_chosen_token_losses as plot_chosen_token_losses
from ih_lens.viz.trajectories import plot_token_loss_pca as plot_token_loss_pca
from ih_lens.viz.trajectories import plot_token_loss_pca_together as plot_token_loss_pca_together
from ih_lens.viz.uncertainty import plot_head_intervals as plot_head_intervals
from ih_lens.viz.uncertainty import plot_null_distribution as plot_null_distribution
from ih_lens.viz.validation import plot_copying_validation as plot_copying_validation
from ih_lens.viz.validation import plot_prefix_matching_validation as plot_prefix_matching_validation
from ih_lens.viz.validation import plot_score_agreement as plot_score_agreement
from ih_lens.viz.viewer.view import induction_view as induction_view
from ih_lens.viz.visible_tokens import visible_token as visible_token
from ih_lens.viz.visible_tokens import visible_tokens as visible_tokens

"""The control heads keep the promises of a facet head, and have no more than they claim."""

import torch
from contracts.facet_head import FacetHeadContract, batched, disturbed, draw_texts

from facetrail.models.text.unifar import UnifarConfig, UnifarHead, pair_scores
from facetrail.models.text.unifar_controls import MeanHead, ProjectionHead


def drawn() -> torch.Generator:
    return torch.Generator().manual_seed(0)


class TestMeanHead(FacetHeadContract):
    make = staticmethod(lambda dim: MeanHead(UnifarConfig(dim=dim)))

    def test_every_score_is_the_cosine_whoever_asks(self) -> None:
        head, texts = disturbed(self.head()), draw_texts(20, dim=self.dim)
        state = self.state(head, texts)
        one_facet = torch.eye(4, dtype=torch.float64)[[2] * 20]
        for weights in (None, one_facet):
            scores = pair_scores(state, state, head.mixing, head.config.margin, weights)
            assert torch.allclose(scores, state.single @ state.single.T)

    def test_the_states_get_the_gradient_of_the_cosine(self) -> None:
        states, layout = batched(draw_texts(6, dim=self.dim))
        gradients = []
        for by_hand in (False, True):
            leaf = states.clone().requires_grad_()
            if by_hand:
                mean = leaf.masked_fill(~layout.mask.unsqueeze(-1), 0).sum(1) / layout.mask.sum(1, keepdim=True)
                unit = torch.nn.functional.normalize(mean, dim=1)
                scores = unit @ unit.T
            else:
                state = self.head()(leaf, layout)
                scores = pair_scores(state, state, 0.3, 0.05)
            gradients.append(torch.autograd.grad(scores[0, 1:].square().sum(), leaf)[0][layout.mask])
        assert torch.allclose(*gradients)


class TestProjectionHead(FacetHeadContract):
    make = staticmethod(lambda dim: ProjectionHead(UnifarConfig(dim=dim), generator=drawn()))

    def test_it_is_about_as_large_as_unifar(self) -> None:
        config = UnifarConfig()
        ours, theirs = ProjectionHead(config, generator=drawn()), UnifarHead(config, generator=drawn())
        sizes = [sum(p.numel() for p in head.parameters()) for head in (ours, theirs)]
        assert 0.75 < sizes[0] / sizes[1] < 1.25

    def test_its_vectors_part_when_trained(self) -> None:
        head, texts = self.head(), draw_texts(16, dim=self.dim)
        optimiser = torch.optim.SGD(head.parameters(), lr=1.0)
        for _ in range(5):
            state = self.state(head, texts)
            optimiser.zero_grad()
            (pair_scores(state, state, head.mixing, head.config.margin).square().mean()).backward()
            optimiser.step()
        facets = self.state(head, texts).facets
        assert (facets[:, 0] - facets[:, 1]).norm(dim=1).min() > 1e-3

    def test_a_facet_is_the_shifted_mean(self) -> None:
        head = disturbed(self.head())
        state = self.state(head, draw_texts(5, dim=self.dim))
        shifted = state.pooled[3] + head.facet_scale[2] * (head.projections[2] @ state.pooled[3])
        assert torch.allclose(state.facets[3, 2], shifted / shifted.norm())

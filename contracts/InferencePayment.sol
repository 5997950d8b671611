// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title What users of the inference gateway pay from: deposits in PLM, and the debits of the one gateway.
/// @notice A user is Pro while the deposit is at least PRO_TIER_MINIMUM. Exactly the minimum is therefore Free again
/// after the first debit.
contract InferencePayment {
    struct UserCredit {
        uint256 balance; // wei that can be used or withdrawn
        uint256 usedCredits; // wei that were ever debited
        uint256 lastDeposit; // unix seconds
        uint256 tier; // FREE or PRO
    }

    uint256 public constant PRO_TIER_MINIMUM = 100 ether;
    uint256 private constant LOWEST_COST = 1e14;
    uint256 private constant FREE = 0;
    uint256 private constant PRO = 1;

    address public owner;
    address public gateway;
    address public treasury;
    uint256 public costPer1000Tokens = 1e15; // wei
    mapping(address user => UserCredit) public userCredits;

    event Deposited(address indexed user, uint256 amount, uint256 newBalance);
    event CreditUsed(address indexed user, uint256 tokens, uint256 cost);
    event Withdrawn(address indexed user, uint256 amount);
    event TierChanged(address indexed user, uint256 oldTier, uint256 newTier);
    event GatewayUpdated(address indexed oldGateway, address indexed newGateway);
    event CostUpdated(uint256 oldCost, uint256 newCost);
    event TreasuryUpdated(address indexed oldTreasury, address indexed newTreasury);
    event OwnershipTransferred(address indexed previousOwner, address indexed newOwner);

    error OwnableUnauthorizedAccount(address account);
    error OwnableInvalidOwner(address owner);

    modifier onlyOwner() {
        if (msg.sender != owner) revert OwnableUnauthorizedAccount(msg.sender);
        _;
    }

    constructor(address gateway_, address treasury_) {
        require(gateway_ != address(0), "Invalid gateway");
        require(treasury_ != address(0), "Invalid treasury");
        owner = msg.sender;
        gateway = gateway_;
        treasury = treasury_;
        emit OwnershipTransferred(address(0), msg.sender);
    }

    // --- for users ---

    function deposit() external payable {
        require(msg.value > 0, "Zero deposit");
        UserCredit storage credit = userCredits[msg.sender];
        credit.balance += msg.value;
        credit.lastDeposit = block.timestamp;
        _updateTier(msg.sender, credit);
        emit Deposited(msg.sender, msg.value, credit.balance);
    }

    function withdraw(uint256 amount) external {
        require(amount > 0, "Zero amount");
        UserCredit storage credit = userCredits[msg.sender];
        require(credit.balance >= amount, "Insufficient balance");
        credit.balance -= amount; // before the transfer: a call back finds nothing to take twice
        _updateTier(msg.sender, credit);
        emit Withdrawn(msg.sender, amount);
        _send(msg.sender, amount, "Transfer failed");
    }

    // --- for the gateway ---

    function useCredits(address user, uint256 tokenCount) external {
        require(msg.sender == gateway, "Only gateway");
        require(tokenCount > 0, "Zero tokens");
        uint256 cost = (tokenCount * costPer1000Tokens) / 1000;
        UserCredit storage credit = userCredits[user];
        require(credit.balance >= cost, "Insufficient balance");
        credit.balance -= cost;
        credit.usedCredits += cost;
        _updateTier(user, credit);
        emit CreditUsed(user, tokenCount, cost);
        _send(treasury, cost, "Treasury transfer failed");
    }

    // --- for everyone ---

    function getUserTier(address user) external view returns (uint256) {
        return userCredits[user].tier;
    }

    function getUserBalance(address user) external view returns (uint256) {
        return userCredits[user].balance;
    }

    function isProTier(address user) external view returns (bool) {
        return userCredits[user].tier == PRO;
    }

    function getUserCredit(address user)
        external
        view
        returns (uint256 balance, uint256 usedCredits, uint256 lastDeposit, uint256 tier)
    {
        UserCredit storage credit = userCredits[user];
        return (credit.balance, credit.usedCredits, credit.lastDeposit, credit.tier);
    }

    // --- for the owner ---

    function setGateway(address newGateway) external onlyOwner {
        require(newGateway != address(0), "Invalid gateway");
        emit GatewayUpdated(gateway, newGateway);
        gateway = newGateway;
    }

    function setTreasury(address newTreasury) external onlyOwner {
        require(newTreasury != address(0), "Invalid treasury");
        emit TreasuryUpdated(treasury, newTreasury);
        treasury = newTreasury;
    }

    function setCostPer1000Tokens(uint256 newCost) external onlyOwner {
        require(newCost >= LOWEST_COST, "Cost too low");
        emit CostUpdated(costPer1000Tokens, newCost);
        costPer1000Tokens = newCost;
    }

    function transferOwnership(address newOwner) external onlyOwner {
        if (newOwner == address(0)) revert OwnableInvalidOwner(newOwner);
        _transferOwnership(newOwner);
    }

    function renounceOwnership() external onlyOwner {
        _transferOwnership(address(0));
    }

    // --- inside ---

    function _updateTier(address user, UserCredit storage credit) private {
        uint256 tier = credit.balance >= PRO_TIER_MINIMUM ? PRO : FREE;
        if (tier != credit.tier) {
            emit TierChanged(user, credit.tier, tier);
            credit.tier = tier;
        }
    }

    function _transferOwnership(address newOwner) private {
        emit OwnershipTransferred(owner, newOwner);
        owner = newOwner;
    }

    function _send(address to, uint256 amount, string memory complaint) private {
        (bool sent,) = to.call{value: amount}("");
        require(sent, complaint);
    }
}
